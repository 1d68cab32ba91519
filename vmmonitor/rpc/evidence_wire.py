# SPDX-License-Identifier: Apache-2.0
"""The form in which evidence crosses the bus: one item of one event at a time.

Its number of form is that of ``wire.py``; content is base64, since JSON has no bytes.
"""

import base64
import binascii
import dataclasses
from collections.abc import Mapping
from typing import Any

from vmmonitor.model import evidence
from vmmonitor.model.errors import InvalidMessage
from vmmonitor.model.evidence import Item
from vmmonitor.model.receipt import Receipt, ReceiptStatus
from vmmonitor.rpc import event_wire, fields

MESSAGE_LENGTH = 1000


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Exhibit:
    """An item of evidence on its way.

    :param host: whose agent sends it; the event must be of the same host.
    """

    host: str
    event_id: str
    item: Item


def write(host: str, event_id: str, item: Item) -> dict[str, Any]:
    """Return the form of an item of evidence."""
    return {
        "schema": fields.SCHEMA,
        "host": host,
        "event_id": event_id,
        "kind": item.kind,
        "captured_at": item.captured_at,
        "content": base64.b64encode(item.content).decode("ascii"),
        "message": item.message[:MESSAGE_LENGTH],
    }


def read(form: Any) -> Exhibit:
    """Return the item of evidence that ``form`` says.

    :raises vmmonitor.model.errors.InvalidMessage: it is not such a form.
    """
    fields.check_schema(form)
    kind = _text(form, "kind", event_wire.WORD_LENGTH)
    if kind not in evidence.KINDS:
        raise InvalidMessage("no such kind of evidence", kind=kind)
    at = form.get("captured_at")
    if not isinstance(at, int) or isinstance(at, bool) or not 0 <= at <= fields.LATEST:
        raise InvalidMessage("captured_at must be a time")
    item = Item(
        kind=kind,
        captured_at=at,
        content=_content(form.get("content")),
        message=_text(form, "message", MESSAGE_LENGTH),
    )
    return Exhibit(
        host=_text(form, "host", event_wire.NAME_LENGTH),
        event_id=_text(form, "event_id", event_wire.ID_LENGTH),
        item=item,
    )


def write_receipt(receipt: Receipt) -> dict[str, Any]:
    """Return the form of the answer."""
    return {"schema": fields.SCHEMA, "receipt": receipt.status, "reason": receipt.reason}


def read_receipt(form: Any) -> Receipt:
    """Return what became of an item of evidence.

    :raises vmmonitor.model.errors.InvalidMessage: it is no such answer.
    """
    fields.check_schema(form)
    if form.get("receipt") not in list(ReceiptStatus):
        raise InvalidMessage("not a receipt of evidence")
    status = ReceiptStatus(form["receipt"])
    return Receipt(status=status, reason=str(form.get("reason", "")))


def _content(text: Any) -> bytes:
    if not isinstance(text, str) or len(text) > evidence.MAX_BYTES * 4 // 3 + 4:
        raise InvalidMessage(f"content must be base64 of at most {evidence.MAX_BYTES} bytes")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidMessage("content is not base64") from error


def _text(form: Mapping[str, Any], key: str, limit: int) -> str:
    value = form.get(key, "")
    if not isinstance(value, str) or len(value) > limit:
        raise InvalidMessage(f"{key} must be a text of at most {limit} characters")
    return value
