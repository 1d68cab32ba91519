# SPDX-License-Identifier: Apache-2.0
"""Write and read the wire format of inventories and of their changes."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from vmmonitor.model.errors import InvalidMessage
from vmmonitor.model.instance import Seen
from vmmonitor.rpc import event_wire, fields


def write_seen(seen: Seen) -> dict[str, Any]:
    """Return an instance of an inventory in wire format; its definition stays on its host."""
    form = {
        "instance": event_wire.write_instance(seen.instance),
        "state": seen.state[: event_wire.WORD_LENGTH],
        "reason": seen.reason[: event_wire.WORD_LENGTH],
        "persistent": seen.persistent,
    }
    return form | {"autostart": True} if seen.autostart else form


def write(host: str, digest: str, seen: Sequence[Seen]) -> dict[str, Any]:
    """Return a whole inventory in wire format."""
    instances = [write_seen(each) for each in seen]
    return {"schema": fields.SCHEMA, "host": host, "digest": digest, "instances": instances}


def read(form: Any) -> tuple[str, str, list[Seen]]:
    """Return (host, digest, instances) of an inventory from its wire format.

    :raises vmmonitor.model.errors.InvalidMessage: the format is wrong.
    """
    fields.check_schema(form)
    host = fields.text(form, "host", event_wire.NAME_LENGTH, required=True)
    return host, fields.text(form, "digest", event_wire.WORD_LENGTH), _read_seen(form, "instances")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class InventoryChanges:
    """The changes of the inventory of a host.

    :param base_digest: digest of the inventory that the changes apply to.
    :param digest: digest of the inventory afterwards.
    :param changed: the new and the changed instances.
    :param gone: uuids of the instances that are no longer on the host.
    """

    host: str
    base_digest: str
    digest: str
    changed: Sequence[Seen]
    gone: Sequence[str]


def write_changes(changes: InventoryChanges) -> dict[str, Any]:
    """Return the changes of an inventory in wire format."""
    return {
        "schema": fields.SCHEMA,
        "host": changes.host,
        "base_digest": changes.base_digest,
        "digest": changes.digest,
        "changed": [write_seen(each) for each in changes.changed],
        "gone": list(changes.gone),
    }


def read_changes(form: Any) -> InventoryChanges:
    """Return the changes of an inventory from their wire format.

    :raises vmmonitor.model.errors.InvalidMessage: the format is wrong.
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
            instance=event_wire.read_instance(each.get("instance")),
            state=fields.text(each, "state", event_wire.WORD_LENGTH, required=True),
            reason=fields.text(each, "reason", event_wire.WORD_LENGTH),
            persistent=bool(each.get("persistent", True)),
            autostart=bool(each.get("autostart", False)),
        )
        for each in instances
        if isinstance(each, Mapping)
    ]
