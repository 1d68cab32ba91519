# SPDX-License-Identifier: Apache-2.0
"""Authentication of callers."""

import hmac
import os
from collections.abc import Callable

import webob
import webob.dec
from oslo_config import cfg

from vmmonitor.api import errors, loopback, token_file
from vmmonitor.api.http_request import ApiRequest

#: Header with the name of the caller. With keystone, its middleware sets the header and removes
#: the one of the client.
AUTHOR = "X-User-Name"
#: Header with the token, as with keystone.
TOKEN = "X-Auth-Token"
#: Author of a request without a name.
UNNAMED = "unnamed"
_AUTHOR_LENGTH = 255


class NoAuth:
    """Accepts requests of programs on this host, without keystone.

    A request over TCP needs the token in ``[api] token_file``. A request through a unix socket
    needs none: the permissions of the socket decide, and the kernel names the user.
    """

    #: Key of the name of the user at the other end of a unix socket, in the environment of a
    #: request. The server that has accepted the connection sets it; a header cannot.
    PEER = "vmmonitor.peer"

    def __init__(self, application: Callable, conf: cfg.ConfigOpts):
        """Read the token, and create it at the first start.

        :raises vmmonitor.model.errors.VmmonitorError: the file of the token cannot be used.
        """
        self.application = application
        self._path = os.path.abspath(conf.api.token_file)
        self._token = token_file.load(self._path).encode()

    @webob.dec.wsgify
    def __call__(self, request: webob.Request) -> webob.Response:
        """Return the response to a request of a program on this host.

        :raises ApiError: the request is not from this host, may come from a web page or through a
            proxy (403), or does not have the token (401).
        """
        proxy = loopback.find_proxy(request)
        if proxy:
            self._refuse(f"without authentication requests of a proxy are refused ({proxy})")
        name = request.environ.get(self.PEER)
        if name is None:
            self._check_tcp(request)
            name = author(request.headers.get(AUTHOR, ""))
        request.environ[ApiRequest.AUTHOR] = name
        return request.get_response(self.application)

    def _check_tcp(self, request: webob.Request) -> None:
        if not loopback.is_loopback(request.remote_addr):
            self._refuse(
                "without authentication only requests from the loopback interface are served, and "
                "those through the socket of vmmonitor-standalone"
            )
        host = loopback.find_foreign_host(request)
        if host:
            self._refuse(
                "without authentication the host of the URL must be 127.0.0.1, localhost or "
                f"[::1], with the port of this server (Host: {host[:255]})"
            )
        page = loopback.find_web_page(request)
        if page:
            self._refuse(
                f"without authentication requests of other web pages are refused ({page[:255]})"
            )
        if not hmac.compare_digest(request.headers.get(TOKEN, "").encode(), self._token):
            raise errors.ApiError(
                401,
                errors.UNAUTHORIZED,
                f"the header {TOKEN} must contain the token in {self._path}; the command "
                "vmmonitor reads it from there, or from the file that VMMONITOR_TOKEN_FILE names, "
                "if its user may read it",
                {"WWW-Authenticate": "vmmonitor"},
            )

    @staticmethod
    def _refuse(detail: str) -> None:
        raise errors.ApiError(403, errors.FORBIDDEN, detail)


def author(header: str) -> str:
    """Return the name of the caller, without a verification.

    :param header: value of the header: UTF-8 decoded as ISO 8859-1, as WSGI requires; empty if
        there is no header.
    :raises ApiError: the value is not UTF-8, too long or not printable (400).
    """
    try:
        name = header.encode("latin-1").decode().strip()
    except UnicodeError:
        name = "\x00"
    if len(name) > _AUTHOR_LENGTH or not name.isprintable():
        detail = f"{AUTHOR}: must be at most {_AUTHOR_LENGTH} printable characters in UTF-8"
        raise errors.ApiError(400, errors.BAD_AUTHOR, detail)
    return name or UNNAMED


#: [api] auth_strategy -> middleware.
STRATEGIES = {"noauth": NoAuth}
