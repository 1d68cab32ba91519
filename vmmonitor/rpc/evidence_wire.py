# SPDX-License-Identifier: Apache-2.0
"""Write and read the wire format of evidence: one item of one event per message.

The message has the schema number of ``event_wire``. The content is base64, because JSON cannot
contain bytes.
"""

import base64
import binascii
import dataclasses
from typing import Any

from vmmonitor.model import evidence
from vmmonitor.model.errors import InvalidMessage
from vmmonitor.model.evidence import Item
from vmmonitor.model.receipt import Receipt, ReceiptStatus
from vmmonitor.rpc import fields

MESSAGE_LENGTH = 1000


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Exhibit:
    """An item of evidence with its event, as it is sent.

    :param host: the host of the agent that sends it; the event must be of the same host.
    """

    host: str
    event_id: str
    item: Item


def write(host: str, event_id: str, item: Item) -> dict[str, Any]:
    """Return an item of evidence in wire format."""
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
    """Return an item of evidence from its wire format.

    :raises vmmonitor.model.errors.InvalidMessage: the format is wrong.
    """
    fields.check_schema(form)
    item = Item(
        kind=fields.choice(form, "kind", evidence.KINDS),
        captured_at=fields.time(form, "captured_at"),
        content=_content(form.get("content")),
        message=fields.label(form, "message", MESSAGE_LENGTH),
    )
    return Exhibit(host=fields.host(form), event_id=fields.uuid(form, "event_id"), item=item)


def write_receipt(receipt: Receipt) -> dict[str, Any]:
    """Return the answer in wire format."""
    return {"schema": fields.SCHEMA, "receipt": receipt.status, "reason": receipt.reason}


def read_receipt(form: Any) -> Receipt:
    """Return the receipt of an item of evidence.

    :raises vmmonitor.model.errors.InvalidMessage: it is not a receipt.
    """
    fields.check_schema(form)
    if form.get("receipt") not in list(ReceiptStatus):
        raise InvalidMessage("not a receipt of evidence")
    status = ReceiptStatus(form["receipt"])
    return Receipt(status=status, reason=fields.printable(str(form.get("reason", ""))))


def _content(text: Any) -> bytes:
    if not isinstance(text, str) or len(text) > evidence.MAX_BYTES * 4 // 3 + 4:
        raise InvalidMessage(f"content must be base64 of at most {evidence.MAX_BYTES} bytes")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidMessage("content is not base64") from error
