# SPDX-License-Identifier: Apache-2.0
"""Checks that a request comes from a program on this host: not from a proxy or a web page."""

import ipaddress

import webob

#: Headers that only proxies add. Headers that begin with FORWARDED_PREFIX belong to them, too.
_PROXY_HEADERS = (
    "Forwarded",
    "Via",
    "X-Real-IP",
    "True-Client-IP",
    "CF-Connecting-IP",
    "CF-Connecting-IPv6",
    "Fastly-Client-IP",
    "X-Client-IP",
    "X-Cluster-Client-IP",
    "X-Original-Forwarded-For",
    "X-Original-Host",
    "X-Original-URL",
    "X-Remote-IP",
    "X-Remote-Addr",
    "X-Originating-IP",
    "X-Envoy-External-Address",
    "X-Azure-ClientIP",
    "X-ProxyUser-IP",
    "Proxy-Client-IP",
    "WL-Proxy-Client-IP",
)
FORWARDED_PREFIX = "X-FORWARDED-"
#: Default port of a scheme, which a Host header omits.
_PORTS = {"http": "80", "https": "443"}
#: Values of Sec-Fetch-Site that a browser sends for an address that its user has typed, and for
#: requests of a page of this API.
_OWN_SITES = ("none", "same-origin")


def is_loopback(address: str | None) -> bool:
    """Return whether an address is one of the loopback interface.

    :param address: REMOTE_ADDR. A server on a unix socket sets none or an empty one, which does
        not count as loopback.
    """
    try:
        peer = ipaddress.ip_address(address or "")
    except ValueError:
        return False
    if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped:
        return peer.ipv4_mapped.is_loopback
    return peer.is_loopback


def find_proxy(request: webob.Request) -> str | None:
    """Return the reason to take a request for that of a proxy; None without one."""
    for name in request.headers:
        if name.upper().startswith(FORWARDED_PREFIX):
            return name
    return next((name for name in _PROXY_HEADERS if name in request.headers), None)


def find_foreign_host(request: webob.Request) -> str | None:
    """Return the Host header if it does not name this server by a loopback address; else None.

    A web page can give its own host name a loopback address, and would then be served by this
    API under that name (DNS rebinding).
    """
    header = request.headers.get("Host", "")
    name, port = _split_host(header)
    is_our_port = (port or _PORTS.get(request.scheme)) == request.environ.get("SERVER_PORT")
    if is_our_port and (name == "localhost" or is_loopback(name)):
        return None
    return header or "none"


def find_web_page(request: webob.Request) -> str | None:
    """Return the header that shows that a page of another site sent a request; None without one.

    The Host header must have been checked before.
    """
    site = request.headers.get("Sec-Fetch-Site", "none")
    if site.lower() not in _OWN_SITES:
        return f"Sec-Fetch-Site: {site}"
    origin = request.headers.get("Origin")
    if origin is not None and origin != f"{request.scheme}://{request.headers.get('Host')}":
        return f"Origin: {origin}"
    return None


def _split_host(header: str) -> tuple[str, str]:
    """Return (name or address, port) of a Host header; an empty port if it has none."""
    if header.startswith("["):
        address, _, rest = header[1:].partition("]")
        return (address, rest[1:]) if rest in ("", ":") or rest.startswith(":") else ("", "")
    name, _, port = header.partition(":")
    return name.lower(), port
