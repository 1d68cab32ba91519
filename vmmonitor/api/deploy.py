# SPDX-License-Identifier: Apache-2.0
"""Builds the WSGI application: the router, and the middleware around it."""

from collections.abc import Callable

import webob
import webob.dec
from oslo_config import cfg
from oslo_middleware import healthcheck, request_id

from vmmonitor.api import auth, errors, microversion, routes
from vmmonitor.db import session


class Health:
    """Answers ``/healthcheck``, and passes on everything else."""

    def __init__(self, application: Callable, conf: cfg.ConfigOpts):
        self.application = application
        self._healthcheck = healthcheck.Healthcheck(None, conf)

    @webob.dec.wsgify
    def __call__(self, request: webob.Request) -> webob.Response:
        """Answer the request, or have it answered."""
        asked = request.environ.get("PATH_INFO") == "/healthcheck"
        return request.get_response(self._healthcheck if asked else self.application)


def build(conf: cfg.ConfigOpts, database: session.Database | None = None) -> Callable:
    """Return the API as a WSGI application; nothing connects to the database yet.

    :param conf: the service's configuration.
    :param database: the one to use, if the process has it already.
    """
    application: Callable = routes.Router(conf, database or session.Database(conf))
    # From the inside to the outside. Faults is next to the handlers, so that an answer that
    # tells of an error carries the version and the request id like any other. A request's
    # version is read only after its caller was let in. A load balancer has no credentials:
    # the health check is in front of them. The request id is outermost, as everything within
    # logs it and tells it.
    for middleware in (
        errors.Faults,
        microversion.Microversion,
        auth.STRATEGIES[conf.api.auth_strategy],
        Health,
        request_id.RequestId,
    ):
        application = middleware(application, conf)
    return application
