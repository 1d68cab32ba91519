# SPDX-License-Identifier: Apache-2.0
"""Microversions of the API.

1.0
    The first version. It is not released yet, so additions are part of it.
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


def parse_version(header: str) -> str:
    """Return the version that a request selects.

    :param header: value of the header: ``SERVICE VERSION`` for one service or, separated by
        commas, for several; empty selects the oldest version.
    :raises ApiError: the value is invalid (400), or the version is not supported (406).
    """
    asked = MINIMUM
    for item in header.split(","):
        service, _, version = item.strip().partition(" ")
        if service.lower() == SERVICE:
            asked = version.strip()
    if asked == "latest":
        return MAXIMUM
    if not re.fullmatch(r"[0-9]{1,4}\.[0-9]{1,4}", asked):
        raise errors.ApiError(400, errors.BAD_VERSION, f"{HEADER}: {asked!r} is not a version")
    if asked != MINIMUM:
        detail = f"version {asked} is not supported; supported are {MINIMUM} to {MAXIMUM}"
        raise errors.ApiError(406, errors.NO_SUCH_VERSION, detail)
    return asked


class Microversion:
    """Reads the version header of requests, and sets it in responses."""

    def __init__(self, application: Callable, conf: cfg.ConfigOpts):
        self.application = application

    @webob.dec.wsgify
    def __call__(self, request: webob.Request) -> webob.Response:
        """Return the response in the selected version.

        :raises ApiError: the version is invalid (400) or not supported (406).
        """
        version = parse_version(request.headers.get(HEADER, ""))
        response = request.get_response(self.application)
        response.headers[HEADER] = f"{SERVICE} {version}"
        response.vary = (*(response.vary or ()), HEADER)
        return response
