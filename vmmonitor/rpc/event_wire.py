# SPDX-License-Identifier: Apache-2.0
"""Write and read the wire format of events, receipts and agent reports, which the spool uses too.

Messages contain plain JSON values. Each has ``schema``, the number of its format:

1. first format.

A reader accepts its own format and all earlier ones. It ignores unknown keys, so that a newer
agent can send to an older engine within one schema number. Times are integers of microseconds.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from vmmonitor.model import event as events
from vmmonitor.model import identifiers
from vmmonitor.model.agent import AgentReport
from vmmonitor.model.errors import InvalidMessage
from vmmonitor.model.event import Decision, Event
from vmmonitor.model.instance import Instance
from vmmonitor.model.receipt import Receipt, ReceiptStatus
from vmmonitor.model.states import AgentState
from vmmonitor.rpc import fields

#: Maximum lengths, in characters. Writers truncate longer texts; readers refuse them.
ATTRIBUTE_LENGTH = 16384
ATTRIBUTES_LENGTH = 65536

#: The statuses that an event can have.
EVENT_STATUSES = (ReceiptStatus.STORED, ReceiptStatus.DUPLICATE, ReceiptStatus.REFUSED)

#: The states that an agent can report; an engine sets ``late``.
REPORTED_STATES = tuple(state for state in AgentState if state != AgentState.LATE)

INSTANCE_FIELDS = tuple(field.name for field in dataclasses.fields(Instance))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """One event with the decision of its host's filter, as it is spooled and sent.

    :param spooled_at: when it was stored in the spool; microseconds, host's clock.
    """

    event: Event
    decision: Decision
    spooled_at: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """The content of one call of ``report_events``.

    :param deliveries: in the order of the events on the host. An invalid one is replaced by the
        reason, a text.
    :param authenticated: whether the call was signed with the key of the host.
    """

    host: str
    sent_at: int
    deliveries: Sequence[Delivery | str]
    authenticated: bool = False


# -- events ------------------------------------------------------------------------------------
def write_event(event: Event) -> dict[str, Any]:
    """Return an event in wire format, with long texts truncated."""
    return {
        "event_id": event.event_id,
        "host": event.host,
        "instance": write_instance(event.instance),
        "source": identifiers.to_word(event.source),
        "type": identifiers.to_word(event.type),
        "detail": identifiers.to_word(event.detail),
        "occurred_at": event.occurred_at,
        "attributes": fit_attributes(event.attributes),
        "sequence": event.sequence,
    }


def write_instance(instance: Instance) -> dict[str, str]:
    """Return an instance in wire format: its fields that are not empty."""
    return {
        name: value[: fields.NAME_LENGTH]
        for name in INSTANCE_FIELDS
        if (value := getattr(instance, name))
    }


def fit_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes that fit: truncate long texts, and omit attributes beyond the limit.

    The attribute ``cut`` contains the names of up to ten truncated or omitted attributes.
    """
    room = ATTRIBUTES_LENGTH - 4096
    kept: dict[str, Any] = {}
    cut = []
    for name, value in attributes.items():
        short_name = name[: fields.NAME_LENGTH]
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
    """Return an event from its wire format.

    :raises vmmonitor.model.errors.InvalidMessage: the format is wrong.
    """
    if not isinstance(form, Mapping):
        raise InvalidMessage("an event must be an object")
    attributes = form.get("attributes", {})
    if not isinstance(attributes, Mapping):
        raise InvalidMessage("attributes must be an object")
    if len(attributes) > 256:
        raise InvalidMessage("attributes has more than 256 entries")
    return Event(
        event_id=fields.uuid(form, "event_id"),
        host=fields.host(form),
        instance=read_instance(form.get("instance")),
        source=fields.word(form, "source", required=True),
        type=fields.word(form, "type", required=True),
        detail=fields.word(form, "detail"),
        occurred_at=fields.time(form, "occurred_at"),
        attributes=attributes,
        sequence=fields.number(form, "sequence", 0),
    )


def read_instance(form: Any) -> Instance:
    """Return an instance from its wire format.

    :raises vmmonitor.model.errors.InvalidMessage: the format is wrong.
    """
    if not isinstance(form, Mapping):
        raise InvalidMessage("instance must be an object")
    labels = {name: fields.label(form, name) for name in INSTANCE_FIELDS if name in form}
    return Instance(**labels | {"uuid": fields.uuid(form, "uuid", "instance.uuid")})


# -- batches -----------------------------------------------------------------------------------
def write_delivery(event: Event, decision: Decision, spooled_at: int) -> dict[str, Any]:
    """Return an event and its decision in wire format, as they are spooled and sent."""
    return write_event(event) | {
        "decision": {
            "action": decision.action,
            "severity": decision.severity,
            "rule": decision.rule[: fields.NAME_LENGTH],
        },
        "spooled_at": spooled_at,
    }


def read_delivery(form: Any) -> Delivery:
    """Return a delivery from its wire format.

    :raises vmmonitor.model.errors.InvalidMessage: the format is wrong.
    """
    event = read_event(form)
    decision = form.get("decision")
    if not isinstance(decision, Mapping):
        raise InvalidMessage("decision must be an object")
    return Delivery(
        event=event,
        decision=Decision(
            action=fields.choice(decision, "action", events.ACTIONS),
            severity=fields.choice(decision, "severity", events.SEVERITIES),
            rule=fields.label(decision, "rule"),
        ),
        spooled_at=fields.time(form, "spooled_at"),
    )


def write_batch(
    host: str, sent_at: int, deliveries: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return a batch in wire format.

    :param deliveries: deliveries in wire format, as the spool contains them.
    """
    return {"schema": fields.SCHEMA, "host": host, "sent_at": sent_at, "events": list(deliveries)}


def read_batch(form: Any, authenticated: bool = False) -> Batch:
    """Return a batch from its wire format. An invalid event does not affect the others.

    :param authenticated: whether the call was signed with the key of the host.
    :raises vmmonitor.model.errors.InvalidMessage: the batch itself is invalid.
    """
    fields.check_schema(form)
    forms = form.get("events")
    if not isinstance(forms, Sequence) or isinstance(forms, str):
        raise InvalidMessage("events must be a list")
    host = fields.host(form)
    return Batch(
        host=host,
        sent_at=fields.time(form, "sent_at"),
        deliveries=[_delivery_or_reason(each, host) for each in forms],
        authenticated=authenticated,
    )


def _delivery_or_reason(form: Any, host: str) -> Delivery | str:
    try:
        delivery = read_delivery(form)
    except InvalidMessage as error:
        return str(error)
    if delivery.event.host != host:
        return f"the event must be of the sending host {host!r}"
    return events.refusal_from_agent(delivery.event) or delivery


def write_receipts(receipts: Sequence[Receipt]) -> dict[str, Any]:
    """Return the answer to a batch in wire format: one entry per event, in its order."""
    return {
        "schema": fields.SCHEMA,
        "receipts": [
            [receipt.status, receipt.reason] if receipt.reason else [receipt.status]
            for receipt in receipts
        ],
    }


def read_receipts(form: Any, count: int) -> list[Receipt]:
    """Return the receipts of the ``count`` events of a batch.

    :raises vmmonitor.model.errors.InvalidMessage: the answer does not match the batch.
    """
    fields.check_schema(form)
    receipts = form.get("receipts")
    if not isinstance(receipts, Sequence) or len(receipts) != count:
        raise InvalidMessage("the answer must have one receipt per event")
    return [_receipt(entry) for entry in receipts]


def _receipt(entry: Any) -> Receipt:
    parts = entry if isinstance(entry, Sequence) and not isinstance(entry, str) else ()
    if not parts or parts[0] not in EVENT_STATUSES:
        raise InvalidMessage("not a receipt", receipt=entry)
    reason = fields.printable(str(parts[1])) if len(parts) > 1 else ""
    return Receipt(status=ReceiptStatus(parts[0]), reason=reason)


# -- reports -----------------------------------------------------------------------------------
def write_report(report: AgentReport) -> dict[str, Any]:
    """Return an agent's report in wire format."""
    return {"schema": fields.SCHEMA} | dataclasses.asdict(report)


def read_report(form: Any) -> AgentReport:
    """Return an agent's report from its wire format.

    :raises vmmonitor.model.errors.InvalidMessage: the format is wrong.
    """
    fields.check_schema(form)
    figures = form.get("figures", {})
    if not isinstance(figures, Mapping):
        raise InvalidMessage("figures must be an object")
    interval = form.get("interval")
    if not isinstance(interval, int | float) or not 0 < interval <= 86400:
        raise InvalidMessage("interval must be a number of seconds up to a day")
    return AgentReport(
        host=fields.host(form),
        state=fields.choice(form, "state", REPORTED_STATES),
        reason=fields.label(form, "reason", None)[: fields.NAME_LENGTH],
        version=fields.label(form, "version"),
        sent_at=fields.time(form, "sent_at"),
        started_at=fields.time(form, "started_at"),
        interval=float(interval),
        spool_depth=fields.number(form, "spool_depth", 0),
        spool_refused=fields.number(form, "spool_refused", 0),
        last_event_at=fields.number(form, "last_event_at", 0),
        filter_checksum=fields.word(form, "filter_checksum"),
        inventory_digest=fields.word(form, "inventory_digest"),
        instances=fields.number(form, "instances", 0),
        machine_id=fields.word(form, "machine_id"),
        boot_id=fields.word(form, "boot_id"),
        figures=figures,
    )
