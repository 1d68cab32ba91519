# SPDX-License-Identifier: Apache-2.0
"""Evidence: what was captured on the host when an event occurred."""

from collections.abc import Mapping
from typing import Any

import webob

from vmmonitor.api import times
from vmmonitor.api.http_request import ApiRequest
from vmmonitor.db import events
from vmmonitor.db import evidence as stored_evidence
from vmmonitor.model import evidence
from vmmonitor.model.event import Event
from vmmonitor.model.evidence import KeptItem

ON_HOST = "it is kept on its host only"
NOT_YET = "it has not come yet, or was not captured"


def index(request: ApiRequest) -> dict[str, Any]:
    """``GET /v1/events/{event_id}/evidence``: what was asked for, and what there is of it."""
    event_id = request.arguments["event_id"]
    with request.database.reader() as tx:
        event = events.get(tx, event_id).event
        there = {item.kind: item for item in stored_evidence.of_event(tx, event_id)}
    reference = event.attributes.get(evidence.ATTRIBUTE)
    reference = reference if isinstance(reference, Mapping) else {}
    asked = [kind for kind in reference.get("kinds", ()) if kind not in there]
    kept = [_there(event, item) for item in there.values()]
    return {"evidence": kept + [_missing(event, kind, reference) for kind in asked]}


def show(request: ApiRequest) -> webob.Response:
    """``GET /v1/events/{event_id}/evidence/{kind}``: the content itself, to be saved as a file."""
    event_id, kind = request.arguments["event_id"], request.arguments["kind"]
    with request.database.reader() as tx:
        item = stored_evidence.content(tx, event_id, kind)
    response = webob.Response(body=item.content, content_type=item.content_type)
    if item.content_type.startswith("text/"):
        response.charset = "UTF-8"
    # A browser must neither guess another type nor show it as a page of ours: guests wrote it.
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.content_disposition = f'attachment; filename="{evidence.file_name(kind)}"'
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return response


def _there(event: Event, item: KeptItem) -> dict[str, Any]:
    return {
        "kind": item.kind,
        "content_type": item.content_type,
        "size": item.size,
        "sha256": item.sha256 or None,
        "kept": evidence.ENGINE,
        "host": event.host,
        "path": None,
        "captured_at": times.iso(item.captured_at),
        "message": item.message,
    }


def _missing(event: Event, kind: Any, reference: Mapping[str, Any]) -> dict[str, Any]:
    kept = reference.get("kept")
    return {
        "kind": kind,
        "content_type": evidence.CONTENT_TYPES.get(kind),
        "size": None,
        "sha256": None,
        "kept": kept,
        "host": event.host,
        "path": reference.get("path"),
        "captured_at": None,
        "message": ON_HOST if kept == evidence.HOST else NOT_YET,
    }
