# SPDX-License-Identifier: Apache-2.0
"""Build the WSGI application: the router and its middleware."""

from collections.abc import Callable

import webob
import webob.dec
from oslo_config import cfg
from oslo_middleware import healthcheck, request_id

from vmmonitor.api import auth, errors, microversion, routes
from vmmonitor.db import session


class HealthCheck:
    """Serves ``/healthcheck``, and passes other requests to the application."""

    def __init__(self, application: Callable, conf: cfg.ConfigOpts):
        self.application = application
        self._healthcheck = healthcheck.Healthcheck(None, conf)

    @webob.dec.wsgify
    def __call__(self, request: webob.Request) -> webob.Response:
        """Return the response of the health check or of the application."""
        is_check = request.environ.get("PATH_INFO") == "/healthcheck"
        return request.get_response(self._healthcheck if is_check else self.application)


def build(conf: cfg.ConfigOpts, database: session.Database | None = None) -> Callable:
    """Return the API as a WSGI application; the first request connects to the database.

    :param conf: the service's configuration.
    :param database: the database of the process; None to create one.
    """
    application: Callable = routes.Router(conf, database or session.Database(conf))
    # From the inside to the outside. Faults is next to the handlers, so that error responses get
    # the version and the request id too. The version is read only after authentication. A load
    # balancer has no credentials, so the health check comes before authentication. The request id
    # is outermost, because every other part logs or returns it.
    for middleware in (
        errors.Faults,
        microversion.Microversion,
        auth.STRATEGIES[conf.api.auth_strategy],
        HealthCheck,
        request_id.RequestId,
    ):
        application = middleware(application, conf)
    return application
