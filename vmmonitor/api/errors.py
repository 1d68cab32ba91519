# SPDX-License-Identifier: Apache-2.0
"""Error responses. A code must not change after its release."""

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

#: A parameter of the query string is unknown or has an invalid value.
BAD_PARAMETER = "vmmonitor.query.bad_parameter"
#: The body is not a JSON object, or does not match its schema.
BAD_BODY = "vmmonitor.body.bad"
#: The content type of the body is not JSON.
BAD_TYPE = "vmmonitor.body.bad_type"
#: The body is too long.
TOO_LONG = "vmmonitor.body.too_long"
#: The header with the name of the caller is invalid.
BAD_AUTHOR = "vmmonitor.author.bad"
#: The path or the query string is not UTF-8.
BAD_ENCODING = "vmmonitor.request.bad_encoding"
#: The token is missing or wrong.
UNAUTHORIZED = "vmmonitor.auth.unauthorized"
#: The caller is not allowed to send this request.
FORBIDDEN = "vmmonitor.auth.forbidden"
#: The URL does not exist.
NO_SUCH_URL = "vmmonitor.url.not_found"
#: The URL does not support the method.
NO_SUCH_METHOD = "vmmonitor.method.not_allowed"
#: The URL exists, but no item has the id.
NOT_FOUND = "vmmonitor.id.not_found"
#: The state of the item does not allow the change, or the item was changed concurrently.
CONFLICT = "vmmonitor.state.conflict"
#: The header OpenStack-API-Version is invalid.
BAD_VERSION = "vmmonitor.version.bad"
#: The requested version of the API is not supported.
NO_SUCH_VERSION = "vmmonitor.version.not_acceptable"
#: The database is unavailable; the request can be repeated.
UNAVAILABLE = "vmmonitor.database.unavailable"
#: A bug in the service; the log has the details.
INTERNAL = "vmmonitor.internal"


class ApiError(webob.exc.HTTPException):
    """An error response; each middleware passes it on like another response."""

    def __init__(
        self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None
    ):
        """Create the response.

        :param status: HTTP status.
        :param code: one of this module's codes.
        :param detail: one sentence for the user.
        :param headers: further headers of the response.
        """
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        super().__init__(detail, self)

    def __call__(self, environ: dict[str, Any], start_response: Callable) -> Iterable[bytes]:
        """Send the response, as a WSGI application."""
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
    """Turns exceptions of handlers into error responses."""

    def __init__(self, application: Callable, conf: cfg.ConfigOpts):
        self.application = application

    @webob.dec.wsgify
    def __call__(self, request: webob.Request) -> webob.Response:
        """Return the response of the application.

        :raises ApiError: the application raised an exception.
        """
        try:
            return request.get_response(self.application)
        except errors.NotFound as error:
            raise ApiError(404, NOT_FOUND, str(error)) from error
        except (errors.Conflict, IllegalTransition) as error:
            raise ApiError(409, CONFLICT, str(error)) from error
        except errors.Retriable as error:
            LOG.warning(
                "Database unavailable for %s %s: %s", request.method, request.path_qs, error
            )
            raise ApiError(503, UNAVAILABLE, str(error), {"Retry-After": "5"}) from error
        except UnicodeDecodeError as error:
            raise ApiError(400, BAD_ENCODING, "path and query must be UTF-8") from error
        except Exception as error:
            LOG.exception("Request %s %s failed", request.method, request.path_qs)
            detail = "internal error; the log of the service has the details under this request id"
            raise ApiError(500, INTERNAL, detail) from error
