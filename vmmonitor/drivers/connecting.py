# SPDX-License-Identifier: Apache-2.0
"""Looks whether somebody listens at an address, and asks nothing of them."""

import socket
import ssl
import urllib.parse

import requests

PORTS = {"http": 80, "https": 443}


def trouble(url: str, ca_file: str, seconds: float) -> str:
    """Connect to the receiver at a URL, or the proxy before it, and look at its certificate.

    :param ca_file: of the authorities that may have signed it; empty: the system's.
    :param seconds: for each step of it.
    :returns: what is wrong, without the URL, which may carry a secret; empty if nothing is.
    """
    try:
        proxy = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
        there = urllib.parse.urlsplit(proxy or url)
        address = (there.hostname or "", there.port or PORTS.get(there.scheme, PORTS["http"]))
    except ValueError:
        return "the receiver's address, or that of the proxy before it, is none"
    context = None
    try:
        if there.scheme == "https":
            context = ssl.create_default_context(cafile=(not proxy and ca_file) or None)
    except OSError as error:
        return f"the authorities cannot be read ([webhook] ca_file): {error}"
    try:
        with socket.create_connection(address, timeout=seconds) as raw:
            if context:
                context.wrap_socket(raw, server_hostname=there.hostname).close()
    except ssl.SSLCertVerificationError as error:
        return f"the receiver's certificate cannot be trusted ([webhook] ca_file): {error}"
    except TimeoutError:
        return f"the receiver did not answer within {seconds:g} s"
    except (OSError, UnicodeError) as error:
        return f"the receiver cannot be reached: {error}"
    return ""
