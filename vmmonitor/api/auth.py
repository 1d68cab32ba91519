# SPDX-License-Identifier: Apache-2.0
"""Who may call."""

import ipaddress
from collections.abc import Callable

import webob
import webob.dec
from oslo_config import cfg

from vmmonitor.api import errors
from vmmonitor.api.http_request import ApiRequest

#: With one of these a proxy on this host passes on somebody else's request.
_PROXIED = ("Forwarded", "X-Forwarded-For", "X-Real-IP")
#: Names the caller; keystone's middleware sets it, and lets nobody else set it.
AUTHOR = "X-User-Name"
#: Who calls without a name.
NOBODY = "unnamed"
_AUTHOR_LENGTH = 255
_READING = ("GET", "HEAD")


def is_loopback(address: str | None) -> bool:
    """Tell whether a request came from this very machine.

    :param address: REMOTE_ADDR. A server on a unix socket sends none or an empty one: whoever
        may open the socket is then behind it, so that counts as not loopback.
    """
    try:
        peer = ipaddress.ip_address(address or "")
    except ValueError:
        return False
    if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped:
        return peer.ipv4_mapped.is_loopback
    return peer.is_loopback


class NoAuth:
    """Lets everybody on this machine in, and nobody else."""

    def __init__(self, application: Callable, conf: cfg.ConfigOpts):
        self.application = application

    @webob.dec.wsgify
    def __call__(self, request: webob.Request) -> webob.Response:
        """Answer, if the request is from the loopback interface."""
        if not is_loopback(request.remote_addr):
            self._refuse(
                "without authentication only the loopback interface is served; a server on a "
                "unix socket tells no address and is refused too"
            )
        proxied = [name for name in _PROXIED if name in request.headers]
        if proxied:
            self._refuse(f"without authentication no proxy is served ({proxied[0]})")
        if request.method not in _READING and "Origin" in request.headers:
            # Its browser may be on this machine; whoever wrote the page is not.
            self._refuse("without authentication no web page may change anything (Origin)")
        request.environ[ApiRequest.AUTHOR] = author(request.headers.get(AUTHOR, ""))
        return request.get_response(self.application)

    @staticmethod
    def _refuse(detail: str) -> None:
        raise errors.ApiError(403, errors.FORBIDDEN, detail)


def author(header: str) -> str:
    """Return who is calling, taken at their word.

    :param header: value of the header, UTF-8 read as ISO 8859-1, as WSGI has it; empty if there
        is none.
    :raises ApiError: it is not UTF-8, too long, or holds what cannot be printed (400).
    """
    try:
        name = header.encode("latin-1").decode().strip()
    except UnicodeError:
        name = "\x00"
    if len(name) > _AUTHOR_LENGTH or not name.isprintable():
        detail = f"{AUTHOR}: not at most {_AUTHOR_LENGTH} printable characters in UTF-8"
        raise errors.ApiError(400, errors.BAD_AUTHOR, detail)
    return name or NOBODY


#: [api] auth_strategy -> middleware. Keystone's place is here.
STRATEGIES = {"noauth": NoAuth}
