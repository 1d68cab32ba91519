# SPDX-License-Identifier: Apache-2.0
"""The last known state of one instance, as the inventory and the spool keep it. Pure."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from vmmonitor.model import instance as states
from vmmonitor.model.instance import Instance, Seen

#: ``Known.pid`` after the end of the process.
ENDED_PID = -1
#: Reason of the state of an instance that libvirt lost.
LOST_REASON = "lost"
#: Reasons of the pause of an instance that may not have run on this host yet.
BEFORE_RUN = frozenset({"migration", "migrated", "starting_up"})


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """The last known state of one instance.

    :param changed_at: time of the last change; microseconds since the epoch.
    :param noticed: a listing showed the state first: the event of the same change, if it still
        comes, is a duplicate.
    :param stopping: initiator of the shutdown that is under way (``host``, ``guest``).
    :param arriving: a migration to this host is under way.
    :param pid: QEMU process of the newest run that a listing has shown; 0 without one, and
        ENDED_PID after the end of the process.
    :param ending: a recovery stops or has stopped the instance by force, and has not started it
        again yet.
    """

    seen: Seen
    changed_at: int
    noticed: bool = False
    stopping: str = ""
    arriving: bool = False
    ending: bool = False
    pid: int = 0

    @property
    def is_lost(self) -> bool:
        """True if the QEMU process lives although libvirt does not run the instance."""
        return self.seen.state == states.LOST_STATE and self.seen.reason == LOST_REASON

    @property
    def is_up(self) -> bool:
        """True if the instance has a QEMU process, as far as is known."""
        return self.seen.state in states.ALIVE or self.is_lost


def write_known(known: Known) -> dict[str, Any]:
    """Return a known state as JSON values, as it is stored beside the spool."""
    return dataclasses.asdict(known)


def read_known(form: Mapping[str, Any]) -> Known:
    """Return the known state that ``write_known`` wrote."""
    seen = dict(form["seen"])
    instance = Instance(**seen.pop("instance"))
    return Known(**(dict(form) | {"seen": Seen(instance=instance, **seen)}))


def is_incoming(seen: Seen, before: Known | None) -> bool:
    """Return whether a listed instance is on its way to this host and has not run here yet.

    A pause for a migration is also the last state of an instance that leaves: that one was seen
    running here in the same run. libvirt starts an incoming instance as ``starting_up``, like any
    other; but a transient one appears in a listing only once it is started.
    """
    if seen.state != states.PAUSED:
        return False
    same_run = before is not None and is_same_run(before.seen, seen)
    if same_run and before and before.arriving:
        return True
    if same_run and before and before.seen.ran_here:
        return False
    return seen.reason == "migration" or (seen.reason == "starting_up" and not seen.persistent)


def is_same_run(before: Seen, now: Seen) -> bool:
    """Return whether two states can belong to the same run of an instance."""
    unknown = -1 in (before.run_id, now.run_id)
    return before.state != states.SHUTOFF and (unknown or before.run_id == now.run_id)


def has_run_here(seen: Seen, before: Known | None, arriving: bool) -> bool | None:
    """Return ``Seen.ran_here`` of the current state of an instance.

    :param before: the last known state.
    :param arriving: a migration to this host is under way.
    """
    if arriving and seen.state != states.SHUTOFF:
        return False
    waits = seen.state == states.PAUSED and seen.reason in BEFORE_RUN
    if seen.state in states.ALIVE and not waits:
        return True
    if before is None or (waits and not is_same_run(before.seen, seen)):
        return None
    return before.seen.ran_here


def merge_definitions(seen: Seen, before: Seen | None) -> Seen:
    """Return a state with the most complete definition of the same run.

    :param before: the last known state.
    """
    if before is None or not before.definition:
        return seen
    loses_password = seen.may_lack_password and not before.may_lack_password
    if seen.definition and not (loses_password and is_same_run(before, seen)):
        return seen
    return dataclasses.replace(
        seen, definition=before.definition, may_lack_password=before.may_lack_password
    )


def merge_instances(first: Instance, second: Instance | None) -> Instance:
    """Return ``first``, with its empty fields taken from ``second``."""
    if second is None:
        return first
    facts = {
        field.name: getattr(first, field.name) or getattr(second, field.name)
        for field in dataclasses.fields(Instance)
    }
    if first.name == first.hypervisor_name and second.name:
        # A source that has only the hypervisor's name uses it for both.
        facts["name"] = second.name
    return Instance(**facts)


def as_reported(known: Known) -> Seen:
    """Return an instance as the engine receives it.

    An instance that arrives by a migration is reported as paused, although libvirt's event says
    "started": it still runs on the other host, and must not seem to run twice.
    """
    if known.arriving and known.seen.state == states.RUNNING:
        return dataclasses.replace(known.seen, state=states.PAUSED, reason="migration")
    return known.seen
