# SPDX-License-Identifier: Apache-2.0
"""The form in which events and reports cross the bus and lie in the spool.

Plain JSON values only. Every message carries ``schema``, the number of its form:

1. first form.

A reader takes its own form and every earlier one; unknown keys are left alone, so that a newer
agent can talk to an older engine within one schema number. Times are integer microseconds.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from vmmonitor.model import event as events
from vmmonitor.model.agent import AgentReport
from vmmonitor.model.errors import InvalidMessage
from vmmonitor.model.event import Decision, Event
from vmmonitor.model.instance import Instance
from vmmonitor.model.receipt import Receipt, ReceiptStatus
from vmmonitor.rpc import fields

#: Greatest lengths, in characters. A writer cuts, a reader refuses.
ID_LENGTH = 36
WORD_LENGTH = 64
NAME_LENGTH = 255
ATTRIBUTE_LENGTH = 16384
ATTRIBUTES_LENGTH = 65536

#: The statuses that an event can have.
EVENT_STATUSES = (ReceiptStatus.STORED, ReceiptStatus.DUPLICATE, ReceiptStatus.REFUSED)

INSTANCE_FIELDS = tuple(field.name for field in dataclasses.fields(Instance))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """One event on its way, with what its host decided about it.

    :param spooled_at: when it was safe on its host; microseconds, host's clock.
    """

    event: Event
    decision: Decision
    spooled_at: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """What one call of ``report_events`` carries.

    :param deliveries: in the order in which things happened on the host. One that could not
        be read stands there as the reason why not.
    """

    host: str
    sent_at: int
    deliveries: Sequence[Delivery | str]


# -- events ------------------------------------------------------------------------------------
def write_event(event: Event) -> dict[str, Any]:
    """Return the event's form, with what is too long cut."""
    return {
        "event_id": event.event_id,
        "host": event.host,
        "instance": write_instance(event.instance),
        "source": event.source[:WORD_LENGTH],
        "type": event.type[:WORD_LENGTH],
        "detail": event.detail[:WORD_LENGTH],
        "occurred_at": event.occurred_at,
        "attributes": fitting(event.attributes),
        "sequence": event.sequence,
    }


def write_instance(instance: Instance) -> dict[str, str]:
    """Return the form of an instance: its facts that are not empty."""
    return {
        name: value[:NAME_LENGTH] for name in INSTANCE_FIELDS if (value := getattr(instance, name))
    }


def fitting(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes that fit: long text is cut, and what is still too much is left out.

    The names of what was cut or left out stand in the attribute ``cut``.
    """
    room = ATTRIBUTES_LENGTH - 4096
    kept: dict[str, Any] = {}
    cut = []
    for name, value in attributes.items():
        short_name = name[:NAME_LENGTH]
        if isinstance(value, str) and len(value) > ATTRIBUTE_LENGTH:
            value = value[:ATTRIBUTE_LENGTH]
            cut.append(short_name)
        size = len(value) if isinstance(value, str) else len(json.dumps(value))
        if len(short_name) + size > room:
            cut.append(short_name)
            continue
        room -= len(short_name) + size
        kept[short_name] = value
    if cut:
        kept["cut"] = cut[:10]
    return kept


def read_event(form: Any) -> Event:
    """Return the event that ``form`` says.

    :raises vmmonitor.model.errors.InvalidMessage: it is not an event's form.
    """
    if not isinstance(form, Mapping):
        raise InvalidMessage("an event must be an object")
    attributes = form.get("attributes", {})
    if not isinstance(attributes, Mapping):
        raise InvalidMessage("attributes must be an object")
    if len(attributes) > 256:
        raise InvalidMessage("more than 256 attributes")
    return Event(
        event_id=fields.text(form, "event_id", ID_LENGTH, required=True),
        host=fields.text(form, "host", NAME_LENGTH, required=True),
        instance=read_instance(form.get("instance")),
        source=fields.text(form, "source", WORD_LENGTH, required=True),
        type=fields.text(form, "type", WORD_LENGTH, required=True),
        detail=fields.text(form, "detail", WORD_LENGTH),
        occurred_at=fields.time(form, "occurred_at"),
        attributes=attributes,
        sequence=fields.number(form, "sequence", 0),
    )


def read_instance(form: Any) -> Instance:
    """Return the instance that ``form`` says.

    :raises vmmonitor.model.errors.InvalidMessage: it is not an instance's form.
    """
    if not isinstance(form, Mapping):
        raise InvalidMessage("instance must be an object")
    facts = {
        name: fields.text(form, name, NAME_LENGTH) for name in INSTANCE_FIELDS if name in form
    }
    if not facts.get("uuid") or len(facts["uuid"]) > ID_LENGTH:
        raise InvalidMessage("instance.uuid must be a text of 1 to 36 characters")
    return Instance(**facts)


# -- batches -----------------------------------------------------------------------------------
def write_delivery(event: Event, decision: Decision, spooled_at: int) -> dict[str, Any]:
    """Return the form of an event with its decision, as it is spooled and sent."""
    return write_event(event) | {
        "decision": {
            "action": decision.action,
            "severity": decision.severity,
            "rule": decision.rule[:NAME_LENGTH],
        },
        "spooled_at": spooled_at,
    }


def read_delivery(form: Any) -> Delivery:
    """Return the delivery that ``form`` says.

    :raises vmmonitor.model.errors.InvalidMessage: it is not a delivery's form.
    """
    event = read_event(form)
    decision = form.get("decision")
    if not isinstance(decision, Mapping):
        raise InvalidMessage("decision must be an object")
    action = fields.text(decision, "action", WORD_LENGTH, required=True)
    severity = fields.text(decision, "severity", WORD_LENGTH, required=True)
    if action not in events.ACTIONS or severity not in events.SEVERITIES:
        raise InvalidMessage("no such action or severity", action=action, severity=severity)
    rule = fields.text(decision, "rule", NAME_LENGTH)
    return Delivery(
        event=event,
        decision=Decision(action=action, severity=severity, rule=rule),
        spooled_at=fields.time(form, "spooled_at"),
    )


def write_batch(
    host: str, sent_at: int, deliveries: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the form of a batch.

    :param deliveries: forms of deliveries, as the spool holds them.
    """
    return {"schema": fields.SCHEMA, "host": host, "sent_at": sent_at, "events": list(deliveries)}


def read_batch(form: Any) -> Batch:
    """Return the batch that ``form`` says; what is wrong with one event spoils no other.

    :raises vmmonitor.model.errors.InvalidMessage: it is no batch at all.
    """
    fields.check_schema(form)
    forms = form.get("events")
    if not isinstance(forms, Sequence) or isinstance(forms, str):
        raise InvalidMessage("events must be a list")
    host = fields.text(form, "host", NAME_LENGTH, required=True)
    return Batch(
        host=host,
        sent_at=fields.time(form, "sent_at"),
        deliveries=[_delivery_or_reason(one, host) for one in forms],
    )


def _delivery_or_reason(form: Any, host: str) -> Delivery | str:
    try:
        delivery = read_delivery(form)
    except InvalidMessage as error:
        return str(error)
    if delivery.event.host != host:
        return f"an agent speaks for its own host {host!r} only"
    return delivery


def write_receipts(receipts: Sequence[Receipt]) -> dict[str, Any]:
    """Return the form of the answer to a batch: one entry per event, in its order."""
    return {
        "schema": fields.SCHEMA,
        "receipts": [
            [receipt.status, receipt.reason] if receipt.reason else [receipt.status]
            for receipt in receipts
        ],
    }


def read_receipts(form: Any, count: int) -> list[Receipt]:
    """Return what became of the ``count`` events of a batch.

    :raises vmmonitor.model.errors.InvalidMessage: the answer does not fit the batch.
    """
    fields.check_schema(form)
    receipts = form.get("receipts")
    if not isinstance(receipts, Sequence) or len(receipts) != count:
        raise InvalidMessage("the answer does not have one receipt per event")
    return [_receipt(entry) for entry in receipts]


def _receipt(entry: Any) -> Receipt:
    parts = entry if isinstance(entry, Sequence) and not isinstance(entry, str) else ()
    if not parts or parts[0] not in EVENT_STATUSES:
        raise InvalidMessage("not a receipt", receipt=entry)
    reason = str(parts[1]) if len(parts) > 1 else ""
    return Receipt(status=ReceiptStatus(parts[0]), reason=reason)


# -- reports -----------------------------------------------------------------------------------
def write_report(report: AgentReport) -> dict[str, Any]:
    """Return the form of an agent's report of itself."""
    return {"schema": fields.SCHEMA} | dataclasses.asdict(report)


def read_report(form: Any) -> AgentReport:
    """Return the report that ``form`` says.

    :raises vmmonitor.model.errors.InvalidMessage: it is not a report's form.
    """
    fields.check_schema(form)
    figures = form.get("figures", {})
    if not isinstance(figures, Mapping):
        raise InvalidMessage("figures must be an object")
    interval = form.get("interval")
    if not isinstance(interval, int | float) or not 0 < interval <= 86400:
        raise InvalidMessage("interval must be a number of seconds up to a day")
    return AgentReport(
        host=fields.text(form, "host", NAME_LENGTH, required=True),
        state=fields.text(form, "state", WORD_LENGTH, required=True),
        reason=fields.text(form, "reason", None)[:NAME_LENGTH],
        version=fields.text(form, "version", NAME_LENGTH),
        sent_at=fields.time(form, "sent_at"),
        started_at=fields.time(form, "started_at"),
        interval=float(interval),
        spool_depth=fields.number(form, "spool_depth", 0),
        spool_refused=fields.number(form, "spool_refused", 0),
        last_event_at=fields.number(form, "last_event_at", 0),
        filter_checksum=fields.text(form, "filter_checksum", WORD_LENGTH),
        inventory_digest=fields.text(form, "inventory_digest", WORD_LENGTH),
        instances=fields.number(form, "instances", 0),
        figures=figures,
    )
