# SPDX-License-Identifier: Apache-2.0
"""Which version of the API is spoken. There is one so far; this is the place of the next.

1.0
    Everything; it has not been released yet, so what is added belongs to it.
"""

import re
from collections.abc import Callable

import webob
import webob.dec
from oslo_config import cfg

from vmmonitor.api import errors

HEADER = "OpenStack-API-Version"
SERVICE = "vmmonitor"
MINIMUM = "1.0"
MAXIMUM = "1.0"


def chosen(header: str) -> str:
    """Return the version that a request asks for.

    :param header: value of the header: ``SERVICE VERSION`` for one service or, separated by
        commas, for several; empty if there is none, which asks for the oldest.
    :raises ApiError: it is not a version (400), or one that is not served (406).
    """
    asked = MINIMUM
    for item in header.split(","):
        service, _, version = item.strip().partition(" ")
        if service.lower() == SERVICE:
            asked = version.strip()
    if asked == "latest":
        return MAXIMUM
    if not re.fullmatch(r"[0-9]{1,4}\.[0-9]{1,4}", asked):
        raise errors.ApiError(400, errors.BAD_VERSION, f"{HEADER}: {asked!r} is no version")
    if asked != MINIMUM:
        detail = f"version {asked} is not served; {MINIMUM} to {MAXIMUM} are"
        raise errors.ApiError(406, errors.NO_SUCH_VERSION, detail)
    return asked


class Microversion:
    """Reads the header, and says in the answer which version it speaks."""

    def __init__(self, application: Callable, conf: cfg.ConfigOpts):
        self.application = application

    @webob.dec.wsgify
    def __call__(self, request: webob.Request) -> webob.Response:
        """Answer in the version that was asked for."""
        version = chosen(request.headers.get(HEADER, ""))
        response = request.get_response(self.application)
        response.headers[HEADER] = f"{SERVICE} {version}"
        response.vary = (*(response.vary or ()), HEADER)
        return response
