# SPDX-License-Identifier: Apache-2.0
"""The version documents."""

from typing import Any

from vmmonitor.api import microversion
from vmmonitor.api.http_request import ApiRequest


def versions(request: ApiRequest) -> dict[str, Any]:
    """``GET /``: list the versions of the API."""
    return {"versions": [_v1(request)]}


def version(request: ApiRequest) -> dict[str, Any]:
    """``GET /v1``: show the version of the API."""
    return {"version": _v1(request)}


def _v1(request: ApiRequest) -> dict[str, Any]:
    return {
        "id": "v1.0",
        "status": "CURRENT",
        "min_version": microversion.MINIMUM,
        "max_version": microversion.MAXIMUM,
        "links": [{"rel": "self", "href": f"{request.application_url.rstrip('/')}/v1"}],
    }
