# SPDX-License-Identifier: Apache-2.0
"""The instances of this host as the agent last knew them, and the events that it missed.

Pure: the pipeline stores the changes beside the spool, in the transaction of the events. After
any absence of the agent or of libvirt, a listing is compared with the state that the last event
left, and each difference becomes one event.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from vmmonitor.agent.snapshot import InventorySnapshot, compute_checksum
from vmmonitor.model import instance as states
from vmmonitor.model.event import ENDING, RUNNING_AGAIN, WITHOUT_A_CAUSE, RawEvent, SourceSnapshot
from vmmonitor.model.instance import Instance, Seen

#: (state, reason) in a listing -> (type, detail) of the event that was missed. Any other state
#: becomes the plain event of MISSED_TYPES, with the reason as its detail.
MISSED_EVENTS = {
    (states.PAUSED, "user"): ("lifecycle.suspended", "paused"),
    (states.PAUSED, "migration"): ("lifecycle.suspended", "migrated"),
    (states.PAUSED, "starting_up"): ("lifecycle.suspended", "paused"),
    (states.SHUTOFF, "from_snapshot"): ("lifecycle.stopped", "from_snapshot"),
    (states.RUNNING, "unpaused"): ("lifecycle.resumed", "unpaused"),
    (states.RUNNING, "save_canceled"): ("lifecycle.resumed", "unpaused"),
}
MISSED_TYPES = {
    states.RUNNING: "lifecycle.started",
    states.PAUSED: "lifecycle.suspended",
    states.SHUTOFF: "lifecycle.stopped",
    states.CRASHED: "lifecycle.crashed",
    states.PMSUSPENDED: "lifecycle.pmsuspended",
}
#: Types of events that occur once in each run of an instance, and that a listing may anticipate.
ONCE_PER_RUN = frozenset({"lifecycle.started", "lifecycle.stopped", "lifecycle.crashed"})
#: First event of a migration to this host. The instance runs here only after it is resumed.
INCOMING_MIGRATION = ("lifecycle.started", "migrated")
#: A guest that crashed and runs its crash kernel; its state does not change.
CRASH_KERNEL = ("lifecycle.crashed", "crashloaded")
#: Detail of the pause that ends a live migration on the source host.
MIGRATED_AWAY = "migrated"
#: Initiator of a shutdown from within the guest.
SHUTDOWN_BY_GUEST = "guest"
#: Detail of the stop of an instance that a listing lacks.
VANISHED = "vanished"
#: Reasons of a pause that are a failure even when the instance was never seen before.
FAILURE_PAUSES = frozenset({"ioerror", "watchdog", "crashed", "api_error", "postcopy_failed"})
#: Maximum number of removed instances that are remembered.
MAX_REMOVED = 1024


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """The last known state of one instance.

    :param changed_at: time of the last change; microseconds since the epoch.
    :param noticed: a listing showed the state first: the event of the same change, if it still
        comes, is a duplicate.
    :param stopping: initiator of the shutdown that is under way (``host``, ``guest``).
    :param arriving: a migration to this host is under way.
    :param ending: a recovery stops or has stopped the instance by force, and has not started it
        again yet.
    """

    seen: Seen
    changed_at: int
    noticed: bool = False
    stopping: str = ""
    arriving: bool = False
    ending: bool = False


def write_known(known: Known) -> dict[str, Any]:
    """Return a known state as JSON values, as it is stored beside the spool."""
    return dataclasses.asdict(known)


def read_known(form: Mapping[str, Any]) -> Known:
    """Return the known state that ``write_known`` wrote."""
    seen = dict(form["seen"])
    instance = Instance(**seen.pop("instance"))
    return Known(**(dict(form) | {"seen": Seen(instance=instance, **seen)}))


class Inventory:
    """The instances of one host."""

    def __init__(self, known: Mapping[str, Known]):
        """Start from the states of an earlier run.

        :param known: UUID -> last known state.
        """
        #: Increases with every change that the engine must receive.
        self.version = 0
        #: True if a listing has confirmed the inventory since the agent started.
        self.listed = False
        self._known: dict[str, Known] = {}
        #: UUID -> (instance as the engine receives it, its checksum).
        self._reported: dict[str, tuple[Seen, int]] = {}
        self._changed: set[str] = set()
        #: UUID -> time of its removal from libvirt: a listing from before may still contain it.
        self._removed: dict[str, int] = {}
        for uuid, state in known.items():
            self._put(uuid, state)
        self.take_changes()

    def __len__(self) -> int:
        return sum(known.seen.state in states.ALIVE for known in list(self._known.values()))

    def get(self, uuid: str) -> Seen | None:
        """Return the instance as it was last seen."""
        known = self._known.get(uuid)
        return known.seen if known else None

    def stopped_by_recovery(self, uuid: str) -> bool:
        """Return whether a recovery stopped the instance by force and has not started it yet."""
        known = self._known.get(uuid)
        return known is not None and known.ending

    def snapshot(self) -> InventorySnapshot:
        """Return the inventory as the engine receives it. Callable from any thread."""
        return InventorySnapshot(self._reported.copy())

    def take_changes(self) -> dict[str, dict[str, Any] | None]:
        """Return what changed since the last call: UUID -> form, or None if forgotten."""
        changed, self._changed = self._changed, set()
        return {
            uuid: write_known(self._known[uuid]) if uuid in self._known else None
            for uuid in changed
        }

    # -- events --------------------------------------------------------------------------------
    def apply_event(self, raw: RawEvent) -> RawEvent | None:
        """Update the inventory with an event, and complete the event with known facts.

        :returns: the event with all known facts of the instance, and with these attributes:
            ``shutdown_by`` if a stop follows a shutdown, ``was_arriving`` if the instance never
            ran here, ``ended_by`` if a recovery stopped it, ``follows`` if an earlier event
            explains an event without a cause. The result is None if a listing has shown the same
            change.
        """
        uuid = raw.instance.uuid
        known = self._known.get(uuid)
        if known and _is_duplicate(known, raw):
            self._put(uuid, dataclasses.replace(known, noticed=False))
            return None
        instance = merge_instances(raw.instance, known.seen.instance if known else None)
        if raw.seen:
            instance = merge_instances(raw.seen.instance, instance)
        attributes = dict(raw.attributes)
        if raw.type == "lifecycle.stopped" and known:
            attributes |= _stop_context(known)
        elif raw.type in WITHOUT_A_CAUSE and known:
            attributes |= _stop_context(known) | _explanation(known)
        self._update(raw, instance, known)
        return dataclasses.replace(raw, instance=instance, attributes=attributes, seen=None)

    def _update(self, raw: RawEvent, instance: Instance, known: Known | None) -> None:
        uuid = instance.uuid
        if raw.type == "lifecycle.undefined":
            if known and known.seen.state not in states.ALIVE:
                self._forget(uuid)
                self._remember_removal(uuid, raw.occurred_at)
            return
        if raw.type == "lifecycle.shutdown":
            if known:
                self._put(uuid, dataclasses.replace(known, stopping=raw.detail))
            return
        if raw.type == ENDING:
            if known:
                self._put(uuid, dataclasses.replace(known, ending=raw.detail == "begun"))
            return
        state = (
            None if (raw.type, raw.detail) == CRASH_KERNEL else states.STATE_AFTER.get(raw.type)
        )
        if state is None and raw.seen is None:
            return
        before = raw.seen or (known.seen if known else Seen(instance=instance, state="unknown"))
        if state is None or before.state == state:
            state, reason = before.state, before.reason
        else:
            reason = raw.detail
        definition = before.definition or (known.seen.definition if known else "")
        seen = dataclasses.replace(
            before, instance=instance, state=state, reason=reason, definition=definition
        )
        if state == states.SHUTOFF:
            seen = dataclasses.replace(seen, run_id=-1)
        arriving = (
            (raw.type, raw.detail) == INCOMING_MIGRATION
            if state
            else bool(known and known.arriving)
        )
        ending = bool(known and known.ending) and raw.type not in RUNNING_AGAIN
        at = raw.occurred_at
        self._put(uuid, Known(seen=seen, changed_at=at, arriving=arriving, ending=ending))

    # -- listings ------------------------------------------------------------------------------
    def apply_listing(self, listing: SourceSnapshot, now: int) -> list[RawEvent]:
        """Update the inventory with a listing; return one event for each difference.

        An event that came after the listing began takes precedence over the listing. An instance
        that is listed for the first time causes no event unless it has failed.

        :param now: microseconds since the epoch. A known state from a later time is older than
            the listing: the clock was set back in between.
        """
        self.listed = True
        events = []
        listed = set()
        for seen in listing.seen:
            listed.add(seen.instance.uuid)
            if not self._is_newer(seen.instance.uuid, listing, now):
                events += self._compare_instance(seen, listing)
        for uuid, known in list(self._known.items()):
            gone = uuid not in listed and known.seen.state in states.ALIVE
            if gone and not self._is_newer(uuid, listing, now):
                events.append(self._record_vanished(known, listing))
        return events

    def _is_newer(self, uuid: str, listing: SourceSnapshot, now: int) -> bool:
        known = self._known.get(uuid)
        changed_at = known.changed_at if known else self._removed.get(uuid)
        return changed_at is not None and listing.started_at <= changed_at <= now

    def _compare_instance(self, seen: Seen, listing: SourceSnapshot) -> list[RawEvent]:
        uuid = seen.instance.uuid
        known = self._known.get(uuid)
        if seen.state not in MISSED_TYPES:
            # The instance exists, but could not be examined.
            return []
        if known and not seen.definition:
            seen = dataclasses.replace(seen, definition=known.seen.definition)
        now = Known(
            seen=dataclasses.replace(
                seen,
                instance=merge_instances(seen.instance, known.seen.instance if known else None),
            ),
            changed_at=listing.started_at,
            noticed=True,
            arriving=bool(known and known.arriving) and seen.state == states.PAUSED,
            ending=bool(known and known.ending and not _is_new_run(known.seen, seen)),
        )
        if known is None:
            failed = _has_failed(seen)
            self._put(uuid, dataclasses.replace(now, noticed=failed))
            return [self._missed_event(now, listing)] if failed else []
        if _is_unchanged(known.seen, seen):
            if known.seen != now.seen:
                self._put(uuid, dataclasses.replace(now, noticed=known.noticed))
            return []
        self._put(uuid, now)
        return [self._missed_event(now, listing, known)]

    def _missed_event(
        self, now: Known, listing: SourceSnapshot, before: Known | None = None
    ) -> RawEvent:
        seen = now.seen
        event_type, detail = MISSED_EVENTS.get(
            (seen.state, seen.reason),
            (MISSED_TYPES.get(seen.state, f"lifecycle.{seen.state}"), seen.reason),
        )
        attributes: dict[str, Any] = {"noticed": listing.why}
        if before:
            attributes |= {"was": before.seen.state, "was_known_at": before.changed_at}
            if event_type == "lifecycle.stopped":
                attributes |= _stop_context(before)
        return RawEvent(
            source=listing.source,
            type=event_type,
            detail=detail,
            occurred_at=listing.started_at,
            instance=seen.instance,
            attributes=attributes,
        )

    def _record_vanished(self, known: Known, listing: SourceSnapshot) -> RawEvent:
        seen = dataclasses.replace(known.seen, state=states.SHUTOFF, reason=VANISHED, run_id=-1)
        at = listing.started_at
        now = Known(seen=seen, changed_at=at, noticed=True, ending=known.ending)
        self._put(seen.instance.uuid, now)
        return self._missed_event(now, listing, known)

    # -- removal -------------------------------------------------------------------------------
    def forget(self, before: int) -> None:
        """Remove the instances that stopped before a time and that libvirt does not keep.

        :param before: microseconds since the epoch.
        """
        for uuid, known in list(self._known.items()):
            gone = known.seen.state == states.SHUTOFF and (
                not known.seen.persistent or known.seen.reason == VANISHED
            )
            if gone and known.changed_at < before:
                self._forget(uuid)

    def _remember_removal(self, uuid: str, at: int) -> None:
        self._removed[uuid] = at
        if len(self._removed) > MAX_REMOVED:
            del self._removed[next(iter(self._removed))]

    def _put(self, uuid: str, known: Known) -> None:
        self._known[uuid] = known
        self._removed.pop(uuid, None)
        self._changed.add(uuid)
        seen = _as_reported(known)
        reported = (seen, compute_checksum(seen))
        if self._reported.get(uuid, (None, None))[1] != reported[1]:
            self._reported[uuid] = reported
            self.version += 1

    def _forget(self, uuid: str) -> None:
        self._known.pop(uuid, None)
        self._changed.add(uuid)
        if self._reported.pop(uuid, None):
            self.version += 1


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


def _as_reported(known: Known) -> Seen:
    """Return an instance as the engine receives it.

    An instance that arrives by a migration is reported as paused, although libvirt's event says
    "started": it still runs on the other host, and must not seem to run twice.
    """
    if known.arriving and known.seen.state == states.RUNNING:
        return dataclasses.replace(known.seen, state=states.PAUSED, reason="migration")
    return known.seen


def _stop_context(known: Known) -> dict[str, Any]:
    """Return the operations under way before a stop, as attributes of the stop."""
    attributes: dict[str, Any] = {"shutdown_by": known.stopping} if known.stopping else {}
    attributes |= {"was_arriving": True} if known.arriving else {}
    return attributes | ({"ended_by": "recovery"} if known.ending else {})


def _explanation(known: Known) -> dict[str, str]:
    """Return the earlier event that explains the end of a process, as an attribute.

    The instance stopped, its guest is shutting down, or it has migrated to another host.
    """
    seen = known.seen
    if seen.state == states.SHUTOFF:
        return {"follows": f"lifecycle.stopped/{seen.reason}"}
    if known.stopping == SHUTDOWN_BY_GUEST:
        return {"follows": f"lifecycle.shutdown/{SHUTDOWN_BY_GUEST}"}
    if seen.state == states.PAUSED and _event_detail(seen) == MIGRATED_AWAY:
        return {"follows": f"lifecycle.suspended/{MIGRATED_AWAY}"}
    return {}


def _is_duplicate(known: Known, raw: RawEvent) -> bool:
    """Return whether a listing has already shown the change that the event reports."""
    if not known.noticed or raw.type not in ONCE_PER_RUN:
        return False
    same_run = raw.seen is None or raw.seen.run_id == known.seen.run_id
    return states.STATE_AFTER[raw.type] == known.seen.state and same_run


def _has_failed(seen: Seen) -> bool:
    """Return whether an instance that was never seen before is in a failure state."""
    return seen.state == states.CRASHED or (
        seen.state == states.PAUSED and seen.reason in FAILURE_PAUSES
    )


def _is_unchanged(before: Seen, now: Seen) -> bool:
    """Return whether no event can have occurred between the listings."""
    if before.state != now.state:
        return False
    if now.state == states.RUNNING:
        return before.run_id == now.run_id or -1 in (before.run_id, now.run_id)
    if now.state == states.SHUTOFF:
        return True
    return _event_detail(before) == _event_detail(now)


def _is_new_run(before: Seen, now: Seen) -> bool:
    return now.state in states.ALIVE and not _is_unchanged(before, now)


def _event_detail(seen: Seen) -> str:
    """Return the reason of a state in the wording of event details, which differs."""
    return MISSED_EVENTS.get((seen.state, seen.reason), ("", seen.reason))[1]
