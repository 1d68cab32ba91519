# SPDX-License-Identifier: Apache-2.0
"""What a caller reads when something went wrong. A code, once shipped, never changes."""

import http
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import webob
import webob.dec
import webob.exc
from oslo_config import cfg
from oslo_middleware import request_id

from vmmonitor.model import errors
from vmmonitor.model.errors import IllegalTransition

LOG = logging.getLogger(__name__)

#: A parameter of the query string is unknown, or its value cannot be.
BAD_PARAMETER = "vmmonitor.query.bad_parameter"
#: The body is no JSON object, or not one that can be understood.
BAD_BODY = "vmmonitor.body.bad"
#: The body is not said to be JSON.
BAD_TYPE = "vmmonitor.body.bad_type"
#: The body is longer than any that makes sense.
TOO_LONG = "vmmonitor.body.too_long"
#: The header that names the caller cannot be read.
BAD_AUTHOR = "vmmonitor.author.bad"
#: The path or the query string is not UTF-8.
BAD_ENCODING = "vmmonitor.request.bad_encoding"
#: The caller may not do this.
FORBIDDEN = "vmmonitor.auth.forbidden"
#: No such URL.
NO_SUCH_URL = "vmmonitor.url.not_found"
#: The URL has no such method.
NO_SUCH_METHOD = "vmmonitor.method.not_allowed"
#: The URL is one of ours, but nothing has that id.
NOT_FOUND = "vmmonitor.id.not_found"
#: It cannot be done to the thing as it is now, or somebody else changed it first.
CONFLICT = "vmmonitor.state.conflict"
#: The header OpenStack-API-Version cannot be read.
BAD_VERSION = "vmmonitor.version.bad"
#: The asked-for version of the API is not served.
NO_SUCH_VERSION = "vmmonitor.version.not_acceptable"
#: Try again later: the database does not answer.
UNAVAILABLE = "vmmonitor.database.unavailable"
#: A bug of ours; the log tells more.
INTERNAL = "vmmonitor.internal"


class ApiError(webob.exc.HTTPException):
    """An answer that tells what went wrong; every middleware lets it through as an answer."""

    def __init__(
        self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None
    ):
        """Keep what the caller is told.

        :param status: HTTP status.
        :param code: one of this module's codes.
        :param detail: one sentence for a person.
        :param headers: further headers of the answer.
        """
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        super().__init__(detail, self)

    def __call__(self, environ: dict[str, Any], start_response: Callable) -> Iterable[bytes]:
        """Answer, as any WSGI application does."""
        error = {
            "status": self.status,
            "code": self.code,
            "title": http.HTTPStatus(self.status).phrase,
            "detail": self.detail,
            "request_id": environ.get(request_id.ENV_REQUEST_ID),
        }
        response = webob.Response(
            json_body={"errors": [error]}, status=self.status, content_type="application/json"
        )
        response.headers.update(self.headers)
        return response(environ, start_response)


class Faults:
    """Turns what a handler raises into an answer."""

    def __init__(self, application: Callable, conf: cfg.ConfigOpts):
        self.application = application

    @webob.dec.wsgify
    def __call__(self, request: webob.Request) -> webob.Response:
        """Answer the request, whatever happens."""
        try:
            return request.get_response(self.application)
        except errors.NotFound as error:
            raise ApiError(404, NOT_FOUND, str(error)) from error
        except (errors.Conflict, IllegalTransition) as error:
            raise ApiError(409, CONFLICT, str(error)) from error
        except errors.Retriable as error:
            LOG.warning("%s %s: %s", request.method, request.path_qs, error)
            raise ApiError(503, UNAVAILABLE, str(error), {"Retry-After": "5"}) from error
        except UnicodeDecodeError as error:
            raise ApiError(400, BAD_ENCODING, "path and query must be UTF-8") from error
        except Exception as error:
            LOG.exception("%s %s failed", request.method, request.path_qs)
            detail = "an error of the service; its log tells more under this request id"
            raise ApiError(500, INTERNAL, detail) from error
