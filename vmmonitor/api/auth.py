# SPDX-License-Identifier: Apache-2.0
"""Authentication of callers."""

import ipaddress
from collections.abc import Callable

import webob
import webob.dec
from oslo_config import cfg

from vmmonitor.api import errors
from vmmonitor.api.http_request import ApiRequest

#: Headers of a request that a proxy forwards.
_PROXIED = ("Forwarded", "X-Forwarded-For", "X-Real-IP")
#: Header with the name of the caller. With keystone, its middleware sets the header and removes
#: the one of the client.
AUTHOR = "X-User-Name"
#: Author of a request without a name.
UNNAMED = "unnamed"
_AUTHOR_LENGTH = 255
_READING = ("GET", "HEAD")


def is_loopback(address: str | None) -> bool:
    """Return whether a request came from this host.

    :param address: REMOTE_ADDR. A server on a unix socket sets none or an empty one, which does
        not count as loopback: the client may be any process that can open the socket.
    """
    try:
        peer = ipaddress.ip_address(address or "")
    except ValueError:
        return False
    if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped:
        return peer.ipv4_mapped.is_loopback
    return peer.is_loopback


class NoAuth:
    """Accepts requests from this host only, without authentication."""

    def __init__(self, application: Callable, conf: cfg.ConfigOpts):
        self.application = application

    @webob.dec.wsgify
    def __call__(self, request: webob.Request) -> webob.Response:
        """Return the response to a request from the loopback interface.

        :raises ApiError: the request is not from this host, or may come from a web page (403).
        """
        if not is_loopback(request.remote_addr):
            self._refuse(
                "without authentication only requests from the loopback interface are served; a "
                "server on a unix socket passes no client address and is refused too"
            )
        proxied = [name for name in _PROXIED if name in request.headers]
        if proxied:
            self._refuse(f"without authentication requests of a proxy are refused ({proxied[0]})")
        if request.method not in _READING and "Origin" in request.headers:
            # The browser may run on this host, but the page is from elsewhere.
            self._refuse("without authentication changes by web pages are refused (Origin)")
        request.environ[ApiRequest.AUTHOR] = author(request.headers.get(AUTHOR, ""))
        return request.get_response(self.application)

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
