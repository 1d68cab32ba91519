# SPDX-License-Identifier: Apache-2.0
"""The form in which an inventory, and what changes in it, crosses the bus."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from vmmonitor.model.errors import InvalidMessage
from vmmonitor.model.instance import Seen
from vmmonitor.rpc import event_wire, fields


def write_seen(seen: Seen) -> dict[str, Any]:
    """Return the form of an instance in an inventory; what starts it again stays on its host."""
    form = {
        "instance": event_wire.write_instance(seen.instance),
        "state": seen.state[: event_wire.WORD_LENGTH],
        "reason": seen.reason[: event_wire.WORD_LENGTH],
        "persistent": seen.persistent,
    }
    return form | {"autostart": True} if seen.autostart else form


def write(host: str, digest: str, seen: Sequence[Seen]) -> dict[str, Any]:
    """Return the form of a whole inventory."""
    instances = [write_seen(one) for one in seen]
    return {"schema": fields.SCHEMA, "host": host, "digest": digest, "instances": instances}


def read(form: Any) -> tuple[str, str, list[Seen]]:
    """Return host, digest and instances of an inventory.

    :raises vmmonitor.model.errors.InvalidMessage: it is not an inventory's form.
    """
    fields.check_schema(form)
    host = fields.text(form, "host", event_wire.NAME_LENGTH, required=True)
    return host, fields.text(form, "digest", event_wire.WORD_LENGTH), _read_seen(form, "instances")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class InventoryChanges:
    """What turns the inventory with one digest into the one with another.

    :param base_digest: of the inventory that is changed.
    :param digest: of what it is then.
    :param changed: the instances that are new or another way than before.
    :param gone: uuids of those that the host does not have any more.
    """

    host: str
    base_digest: str
    digest: str
    changed: Sequence[Seen]
    gone: Sequence[str]


def write_changes(changes: InventoryChanges) -> dict[str, Any]:
    """Return the form of what changed in an inventory."""
    return {
        "schema": fields.SCHEMA,
        "host": changes.host,
        "base_digest": changes.base_digest,
        "digest": changes.digest,
        "changed": [write_seen(one) for one in changes.changed],
        "gone": list(changes.gone),
    }


def read_changes(form: Any) -> InventoryChanges:
    """Return what changed in an inventory.

    :raises vmmonitor.model.errors.InvalidMessage: it is not the form of that.
    """
    fields.check_schema(form)
    gone = form.get("gone")
    if not isinstance(gone, Sequence) or isinstance(gone, str):
        raise InvalidMessage("gone must be a list")
    if not all(isinstance(uuid, str) and len(uuid) <= event_wire.ID_LENGTH for uuid in gone):
        raise InvalidMessage("gone must be a list of uuids")
    return InventoryChanges(
        host=fields.text(form, "host", event_wire.NAME_LENGTH, required=True),
        base_digest=fields.text(form, "base_digest", event_wire.WORD_LENGTH),
        digest=fields.text(form, "digest", event_wire.WORD_LENGTH),
        changed=_read_seen(form, "changed"),
        gone=gone,
    )


def _read_seen(form: Mapping[str, Any], key: str) -> list[Seen]:
    instances = form.get(key)
    if not isinstance(instances, Sequence) or isinstance(instances, str):
        raise InvalidMessage(f"{key} must be a list")
    return [
        Seen(
            instance=event_wire.read_instance(one.get("instance")),
            state=fields.text(one, "state", event_wire.WORD_LENGTH, required=True),
            reason=fields.text(one, "reason", event_wire.WORD_LENGTH),
            persistent=bool(one.get("persistent", True)),
            autostart=bool(one.get("autostart", False)),
        )
        for one in instances
        if isinstance(one, Mapping)
    ]
