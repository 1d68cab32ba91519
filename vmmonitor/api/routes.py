# SPDX-License-Identifier: Apache-2.0
"""The URLs of the API with their methods and handlers."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import routes
import webob
import webob.dec
from oslo_config import cfg

from vmmonitor.api import errors
from vmmonitor.api.handlers import (
    agent,
    event,
    evidence,
    incident,
    operator_request,
    recovery,
    root,
    silence,
)
from vmmonitor.api.http_request import ApiRequest
from vmmonitor.db import session

Handler = Callable[[ApiRequest], Mapping[str, Any] | webob.Response]

ROUTES: Mapping[str, Mapping[str, Handler]] = {
    "/": {"GET": root.versions},
    "/v1": {"GET": root.version},
    "/v1/events": {"GET": event.index},
    "/v1/events/{event_id}": {"GET": event.show},
    "/v1/events/{event_id}/evidence": {"GET": evidence.index},
    "/v1/events/{event_id}/evidence/{kind}": {"GET": evidence.show},
    "/v1/incidents": {"GET": incident.index},
    "/v1/incidents/{incident_id}": {"GET": incident.show},
    "/v1/incidents/{incident_id}/requests": {"POST": operator_request.of_incident},
    "/v1/recoveries": {"GET": recovery.index},
    "/v1/recoveries/{recovery_id}": {"GET": recovery.show},
    "/v1/recoveries/{recovery_id}/requests": {"POST": operator_request.of_recovery},
    "/v1/requests": {"GET": operator_request.index},
    "/v1/requests/{request_id}": {"GET": operator_request.show},
    "/v1/silences": {"GET": silence.index, "POST": silence.create},
    "/v1/silences/{silence_id}": {"GET": silence.show, "DELETE": silence.expire},
    "/v1/agents": {"GET": agent.index},
    "/v1/agents/{host}": {"GET": agent.show},
}


def _refuse(allowed: str, request: ApiRequest) -> NoReturn:
    detail = f"{request.path_info} does not support {request.method}; it supports {allowed}"
    raise errors.ApiError(405, errors.NO_SUCH_METHOD, detail, {"Allow": allowed})


def _mapper() -> routes.Mapper:
    mapper = routes.Mapper(controller_scan=None, explicit=True)
    for url, methods in ROUTES.items():
        allowed = [*methods, "HEAD"] if "GET" in methods else [*methods]
        for method, handler in methods.items():
            # WebOb omits the body of a response to HEAD.
            served = ["GET", "HEAD"] if method == "GET" else [method]
            mapper.connect(None, url, handler=handler, conditions={"method": served})
        mapper.connect(None, url, handler=functools.partial(_refuse, ", ".join(allowed)))
    mapper.create_regs([])
    return mapper


class Router:
    """Calls the handler of a request, and returns its result as a JSON response.

    A handler can also return a complete response.
    """

    def __init__(self, conf: cfg.ConfigOpts, database: session.Database):
        """Create the URL mapper.

        :param conf: the service's configuration, for the handlers.
        :param database: the database of the handlers.
        """
        self.conf = conf
        self.database = database
        self._mapper = _mapper()

    @webob.dec.wsgify(RequestClass=ApiRequest)
    def __call__(self, request: ApiRequest) -> webob.Response:
        """Return the response of the handler.

        :raises ApiError: the URL does not exist (404), or does not support the method (405).
        """
        found = self._mapper.match(request.path_info or "/", request.environ)
        if not found:
            detail = f"{request.path_info} does not exist"
            raise errors.ApiError(404, errors.NO_SUCH_URL, detail)
        handler = found.pop("handler")
        request.conf, request.database, request.arguments = self.conf, self.database, found
        response = handler(request)
        if not isinstance(response, webob.Response):
            response = webob.Response(json_body=response, content_type="application/json")
        response.cache_control = "no-cache"
        return response
