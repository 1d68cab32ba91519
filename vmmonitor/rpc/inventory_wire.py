# SPDX-License-Identifier: Apache-2.0
"""Write and read the wire format of inventories and of their changes."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from oslo_log import log

from vmmonitor.model import identifiers
from vmmonitor.model.errors import InvalidMessage
from vmmonitor.model.instance import Seen
from vmmonitor.rpc import event_wire, fields

LOG = log.getLogger(__name__)


def write_seen(seen: Seen) -> dict[str, Any]:
    """Return an instance of an inventory in wire format; its definition stays on its host."""
    form = {
        "instance": event_wire.write_instance(seen.instance),
        "state": identifiers.to_word(seen.state),
        "reason": identifiers.to_word(seen.reason),
        "persistent": seen.persistent,
    }
    return form | {"autostart": True} if seen.autostart else form


def write(host: str, digest: str, seen: Sequence[Seen]) -> dict[str, Any]:
    """Return a whole inventory in wire format."""
    instances = [write_seen(each) for each in seen]
    return {"schema": fields.SCHEMA, "host": host, "digest": digest, "instances": instances}


def read(form: Any) -> tuple[str, str, list[Seen]]:
    """Return (host, digest, instances) of an inventory from its wire format.

    An invalid instance is left out and logged; it does not affect the others.

    :raises vmmonitor.model.errors.InvalidMessage: the format is wrong.
    """
    fields.check_schema(form)
    host = fields.host(form)
    return host, fields.word(form, "digest"), _read_instances(form, "instances", host)


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

    An invalid instance is left out and logged; it does not affect the others.

    :raises vmmonitor.model.errors.InvalidMessage: the format is wrong.
    """
    fields.check_schema(form)
    host = fields.host(form)
    gone = form.get("gone")
    if not isinstance(gone, Sequence) or isinstance(gone, str):
        raise InvalidMessage("gone must be a list")
    return InventoryChanges(
        host=host,
        base_digest=fields.word(form, "base_digest"),
        digest=fields.word(form, "digest"),
        changed=_read_instances(form, "changed", host),
        gone=[uuid for uuid in gone if isinstance(uuid, str) and identifiers.is_uuid(uuid)],
    )


def _read_instances(form: Mapping[str, Any], key: str, host: str) -> list[Seen]:
    instances = form.get(key)
    if not isinstance(instances, Sequence) or isinstance(instances, str):
        raise InvalidMessage(f"{key} must be a list")
    read = []
    reasons = []
    for each in instances:
        try:
            read.append(_read_seen(each))
        except InvalidMessage as error:
            reasons.append(str(error))
    if reasons:
        LOG.warning(
            "Left out %d invalid instances of the inventory of host %s; the first: %s",
            len(reasons),
            host,
            reasons[0],
        )
    return read


def _read_seen(form: Any) -> Seen:
    if not isinstance(form, Mapping):
        raise InvalidMessage("an instance of an inventory must be an object")
    return Seen(
        instance=event_wire.read_instance(form.get("instance")),
        state=fields.word(form, "state", required=True),
        reason=fields.word(form, "reason"),
        persistent=bool(form.get("persistent", True)),
        autostart=bool(form.get("autostart", False)),
    )
