# SPDX-License-Identifier: Apache-2.0
"""The instances of this host as the agent last knew them, and the events that it missed.

Pure: the pipeline stores the changes beside the spool, in the transaction of the events. After
any absence of the agent or of libvirt, a listing is compared with the state that the last event
left, and each difference becomes one event.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from vmmonitor.agent import lost
from vmmonitor.agent.known import (
    ENDED_PID,
    Known,
    as_reported,
    has_run_here,
    is_incoming,
    is_same_run,
    merge_definitions,
    merge_instances,
    write_known,
)
from vmmonitor.agent.missed_events import (
    INCOMING_MIGRATION,
    MIGRATED_AWAY,
    MISSED_TYPES,
    build_missed_event,
    explain_exit,
    has_failed,
    is_duplicate,
    is_new_run,
    is_unchanged,
    stop_context,
)
from vmmonitor.agent.snapshot import InventorySnapshot, compute_checksum
from vmmonitor.model import instance as states
from vmmonitor.model.event import ENDING, RUNNING_AGAIN, WITHOUT_A_CAUSE, RawEvent, SourceSnapshot
from vmmonitor.model.instance import Instance, Seen

#: A guest that crashed and runs its crash kernel; its state does not change.
CRASH_KERNEL = ("lifecycle.crashed", "crashloaded")
#: Detail of the stop of an instance that a listing lacks.
VANISHED = "vanished"
#: Maximum number of removed instances that are remembered.
MAX_REMOVED = 1024


class Inventory:
    """The instances of one host."""

    def __init__(self, known: Mapping[str, Known], vanished_limit: int = 10):
        """Start from the states of an earlier run.

        :param known: UUID -> last known state.
        :param vanished_limit: as in ``lost.is_doubtful``.
        """
        self._vanished_limit = vanished_limit
        #: UUIDs of instances that a listing lacks, and that may run.
        self._unproven: set[str] = set()
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

    def find_doubt(self) -> str:
        """Return why libvirt is not believed; empty if it is. Callable from any thread."""
        up = [known for known in list(self._known.values()) if known.is_up]
        lost_count = sum(known.is_lost for known in up)
        unproven = len(self._unproven)
        if not lost.is_doubtful(lost_count + unproven, len(up), self._vanished_limit):
            return ""
        return lost.describe_doubt(lost_count, unproven, len(up))

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
            ran here, ``was_paused`` if it was paused, ``ended_by`` if a recovery stopped it,
            ``follows`` if an earlier event explains an event without a cause. The result is None
            if a listing has shown the same change.
        """
        uuid = raw.instance.uuid
        known = self._known.get(uuid)
        if known and is_duplicate(known, raw):
            self._put(uuid, dataclasses.replace(known, noticed=False))
            return None
        if known and known.is_lost and raw.type in WITHOUT_A_CAUSE:
            # Nothing else reports the stop: libvirt does not have the instance.
            raw = dataclasses.replace(raw, type="lifecycle.stopped", detail=VANISHED)
        instance = merge_instances(raw.instance, known.seen.instance if known else None)
        if raw.seen:
            instance = merge_instances(raw.seen.instance, instance)
        attributes = dict(raw.attributes)
        if raw.type == "lifecycle.stopped" and known:
            attributes |= stop_context(known)
        elif raw.type in WITHOUT_A_CAUSE and known:
            attributes |= stop_context(known) | explain_exit(known)
            if not attributes.get("replaced"):
                self._put(uuid, dataclasses.replace(known, pid=ENDED_PID))
        self._update(raw, instance, known)
        return dataclasses.replace(raw, instance=instance, attributes=attributes, seen=None)

    def _update(self, raw: RawEvent, instance: Instance, known: Known | None) -> None:
        uuid = instance.uuid
        if raw.type == "lifecycle.undefined":
            if known and not known.is_up:
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
        before = merge_definitions(before, known.seen if known else None)
        seen = dataclasses.replace(before, instance=instance, state=state, reason=reason)
        if state == states.SHUTOFF:
            seen = dataclasses.replace(seen, run_id=-1)
        arriving = _arrives(raw, seen, known)
        seen = dataclasses.replace(seen, ran_here=has_run_here(seen, known, arriving))
        ending = bool(known and known.ending) and raw.type not in RUNNING_AGAIN
        is_new = raw.type == "lifecycle.started"
        self._put(
            uuid,
            Known(
                seen=seen,
                changed_at=raw.occurred_at,
                arriving=arriving,
                ending=ending,
                pid=known.pid if known and not is_new else 0,
            ),
        )

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
        gone: list[tuple[Known, Seen | None]] = []
        listed = {seen.instance.uuid for seen in listing.seen}
        for seen in listing.seen:
            known = self._known.get(seen.instance.uuid)
            if self._is_newer(seen.instance.uuid, listing, now):
                continue
            if known and known.is_up and lost.is_unexplained(seen):
                gone.append((known, seen))
            else:
                events += self._compare_instance(seen, listing)
        for uuid, known in list(self._known.items()):
            if uuid not in listed and known.is_up and not self._is_newer(uuid, listing, now):
                gone.append((known, None))
        return events + self._record_gone(gone, listing)

    def _is_newer(self, uuid: str, listing: SourceSnapshot, now: int) -> bool:
        known = self._known.get(uuid)
        changed_at = known.changed_at if known else self._removed.get(uuid)
        return changed_at is not None and listing.started_at <= changed_at <= now

    def _record_gone(
        self, gone: Sequence[tuple[Known, Seen | None]], listing: SourceSnapshot
    ) -> list[RawEvent]:
        """Record that libvirt does not run instances any longer; return the events.

        :param gone: last known state of each instance, and its listed state if it is listed.
        """
        events = []
        ended = []
        up = sum(known.is_up for known in self._known.values())
        for known, seen in gone:
            pid = lost.find_lost_pid(known, seen, listing)
            if pid:
                events += self._record_lost(known, known.seen, pid, listing)
            else:
                ended.append((known, seen))
        unproven = lost.find_unproven([known for known, _ in ended], self._known.values(), listing)
        is_doubtful = lost.is_doubtful(len(unproven), up, self._vanished_limit)
        self._unproven = unproven if is_doubtful else set()
        for known, seen in ended:
            if known.seen.instance.uuid not in self._unproven:
                events += (
                    self._compare_instance(seen, listing)
                    if seen
                    else [self._record_vanished(known, listing)]
                )
        return events

    def _record_lost(
        self, known: Known | None, seen: Seen, pid: int, listing: SourceSnapshot
    ) -> list[RawEvent]:
        if known and known.is_lost and known.pid == pid:
            return []
        now = lost.mark_lost(known, seen, pid, listing)
        self._put(seen.instance.uuid, now)
        return [lost.build_lost_event(known, now, listing)]

    def _compare_instance(self, seen: Seen, listing: SourceSnapshot) -> list[RawEvent]:
        uuid = seen.instance.uuid
        known = self._known.get(uuid)
        if seen.state not in MISSED_TYPES:
            # The instance exists, but could not be examined.
            return []
        lost_pid = lost.find_lost_pid(known, seen, listing)
        if lost_pid:
            return self._record_lost(known, known.seen if known else seen, lost_pid, listing)
        seen = merge_definitions(seen, known.seen if known else None)
        arriving = is_incoming(seen, known)
        now = Known(
            seen=dataclasses.replace(
                seen,
                instance=merge_instances(seen.instance, known.seen.instance if known else None),
                ran_here=has_run_here(seen, known, arriving),
            ),
            changed_at=listing.started_at,
            noticed=True,
            arriving=arriving,
            ending=bool(known and known.ending and not is_new_run(known.seen, seen)),
            pid=_listed_pid(seen, known, listing),
        )
        if known is None:
            failed = has_failed(seen)
            self._put(uuid, dataclasses.replace(now, noticed=failed))
            return [build_missed_event(now, listing)] if failed else []
        if is_unchanged(known.seen, seen):
            if (known.seen, known.pid) != (now.seen, now.pid):
                self._put(uuid, dataclasses.replace(now, noticed=known.noticed))
            return []
        self._put(uuid, now)
        return [build_missed_event(now, listing, known)]

    def _record_vanished(self, known: Known, listing: SourceSnapshot) -> RawEvent:
        seen = dataclasses.replace(known.seen, state=states.SHUTOFF, reason=VANISHED, run_id=-1)
        at = listing.started_at
        now = Known(seen=seen, changed_at=at, noticed=True, ending=known.ending, pid=known.pid)
        self._put(seen.instance.uuid, now)
        return build_missed_event(now, listing, known)

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
        self._unproven.discard(uuid)
        self._changed.add(uuid)
        seen = as_reported(known)
        reported = (seen, compute_checksum(seen))
        if self._reported.get(uuid, (None, None))[1] != reported[1]:
            self._reported[uuid] = reported
            self.version += 1

    def _forget(self, uuid: str) -> None:
        self._known.pop(uuid, None)
        self._unproven.discard(uuid)
        self._changed.add(uuid)
        if self._reported.pop(uuid, None):
            self.version += 1


def _arrives(raw: RawEvent, seen: Seen, known: Known | None) -> bool:
    """Return whether a migration to this host is under way after an event.

    :param seen: the state after the event.
    :param known: the state before the event.
    """
    if (raw.type, raw.detail) == INCOMING_MIGRATION:
        return True
    if raw.type not in states.STATE_AFTER:
        return is_incoming(seen, known)
    is_pause = (seen.state, raw.detail) == (states.PAUSED, MIGRATED_AWAY)
    return is_pause and bool(known and known.arriving)


def _listed_pid(seen: Seen, known: Known | None, listing: SourceSnapshot) -> int:
    """Return the QEMU process of the newest run of a listed instance; 0 if it is not known."""
    pid = (
        known.pid
        if known and (seen.state == states.SHUTOFF or is_same_run(known.seen, seen))
        else 0
    )
    if seen.state not in states.ALIVE or listing.processes is None:
        return pid
    return listing.processes.get(seen.instance.uuid, pid)
