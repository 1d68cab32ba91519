# SPDX-License-Identifier: Apache-2.0
"""Evidence that an agent captured about an event."""

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

ON_HOST = "stored on the host only"
NOT_YET = "not received yet, or not captured"


def index(request: ApiRequest) -> dict[str, Any]:
    """``GET /v1/events/{event_id}/evidence``: list the requested and the stored items."""
    event_id = request.arguments["event_id"]
    with request.database.reader() as tx:
        event = events.get(tx, event_id).event
        stored = {item.kind: item for item in stored_evidence.of_event(tx, event_id)}
    reference = event.attributes.get(evidence.ATTRIBUTE)
    reference = reference if isinstance(reference, Mapping) else {}
    missing = [kind for kind in reference.get("kinds", ()) if kind not in stored]
    items = [_view_stored(event, item) for item in stored.values()]
    return {"evidence": items + [_view_missing(event, kind, reference) for kind in missing]}


def show(request: ApiRequest) -> webob.Response:
    """``GET /v1/events/{event_id}/evidence/{kind}``: return the content as a file."""
    event_id, kind = request.arguments["event_id"], request.arguments["kind"]
    with request.database.reader() as tx:
        item = stored_evidence.content(tx, event_id, kind)
    response = webob.Response(body=item.content, content_type=item.content_type)
    if item.content_type.startswith("text/"):
        response.charset = "UTF-8"
    # The content comes from a guest: a browser must not guess its type or show it as a page.
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.content_disposition = f'attachment; filename="{evidence.file_name(kind)}"'
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return response


def _view_stored(event: Event, item: KeptItem) -> dict[str, Any]:
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


def _view_missing(event: Event, kind: Any, reference: Mapping[str, Any]) -> dict[str, Any]:
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
        "message": ON_HOST if kept == evidence.KEPT_ON_HOST else NOT_YET,
    }
