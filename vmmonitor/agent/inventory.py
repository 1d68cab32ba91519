# SPDX-License-Identifier: Apache-2.0
"""What the agent knows of the instances on its host, and what follows from a new look at them.

Pure: the pipeline stores what changed, beside the spool and in the same transaction as the
events. So after any absence (of the agent or of libvirt) the listing is held against exactly
what was known when the last event was told, and each difference becomes one event.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from vmmonitor.agent.snapshot import InventorySnapshot, compute_checksum
from vmmonitor.model import instance as states
from vmmonitor.model.event import ENDING, RUNNING_AGAIN, WITHOUT_A_CAUSE, RawEvent, SourceSnapshot
from vmmonitor.model.instance import Instance, Seen

#: (state, reason) now -> (type, detail) of the event that must have been missed. A state that
#: is not here with its reason becomes its plain event with the reason as its detail.
MISSED = {
    (states.PAUSED, "user"): ("lifecycle.suspended", "paused"),
    (states.PAUSED, "migration"): ("lifecycle.suspended", "migrated"),
    (states.PAUSED, "starting_up"): ("lifecycle.suspended", "paused"),
    (states.SHUTOFF, "from_snapshot"): ("lifecycle.stopped", "from_snapshot"),
    (states.RUNNING, "unpaused"): ("lifecycle.resumed", "unpaused"),
    (states.RUNNING, "save_canceled"): ("lifecycle.resumed", "unpaused"),
}
MISSED_TYPE = {
    states.RUNNING: "lifecycle.started",
    states.PAUSED: "lifecycle.suspended",
    states.SHUTOFF: "lifecycle.stopped",
    states.CRASHED: "lifecycle.crashed",
    states.PMSUSPENDED: "lifecycle.pmsuspended",
}
#: A listing may hold an instance that could not be looked at: it is there, and that is all.
LEGIBLE = frozenset(MISSED_TYPE)
#: What comes but once in each run of an instance.
TOLD_BY_LISTINGS = frozenset({"lifecycle.started", "lifecycle.stopped", "lifecycle.crashed"})
#: How a migration to this host begins. The instance runs here when it is resumed, not before.
ARRIVING = ("lifecycle.started", "migrated")
#: A guest that crashed, and runs its crash kernel: it is as it was.
DUMPS = ("lifecycle.crashed", "crashloaded")
#: Detail of the pause that ends a live migration on the host that the instance leaves.
MOVED = "migrated"
#: Who shuts down an instance that is not ended by its host.
BY_GUEST = "guest"
#: Detail of the stop of an instance of which its host keeps no trace.
VANISHED = "vanished"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """What is known of one instance.

    :param changed_at: when it was learnt; microseconds since the epoch, like the next one.
    :param noticed: its state was learnt from a listing: its own event, should it still come,
        would tell the same thing twice.
    :param stopping: who asked for a shutdown that is under way (``host``, ``guest``).
    :param arriving: it is being migrated to this host, and has not run here yet.
    :param ending: a recovery ends it by force, or did, and has not started it again yet.
    """

    seen: Seen
    changed_at: int
    noticed: bool = False
    stopping: str = ""
    arriving: bool = False
    ending: bool = False


def write_known(known: Known) -> dict[str, Any]:
    """Return what is known as JSON values, to be kept beside the spool."""
    return dataclasses.asdict(known)


def read_known(form: Mapping[str, Any]) -> Known:
    """Return what ``write_known`` wrote."""
    seen = dict(form["seen"])
    instance = Instance(**seen.pop("instance"))
    return Known(**(dict(form) | {"seen": Seen(instance=instance, **seen)}))


class Inventory:
    """The instances of one host."""

    def __init__(self, known: Mapping[str, Known]):
        """Start from what was known last.

        :param known: uuid -> what is known.
        """
        #: Rises with whatever an engine has to be told.
        self.version = 0
        #: Whether it was held against the host; before, it is what was known long ago.
        self.listed = False
        self._known: dict[str, Known] = {}
        self._told: dict[str, tuple[Seen, int]] = {}
        self._changed: set[str] = set()
        for uuid, one in known.items():
            self._put(uuid, one)
        self.take_changes()

    def __len__(self) -> int:
        return sum(known.seen.state in states.ALIVE for known in list(self._known.values()))

    def get(self, uuid: str) -> Seen | None:
        """Return the instance as it was last seen."""
        known = self._known.get(uuid)
        return known.seen if known else None

    def ended(self, uuid: str) -> bool:
        """Tell whether what ended the instance was a recovery that was to start it again."""
        known = self._known.get(uuid)
        return known is not None and known.ending

    def snapshot(self) -> InventorySnapshot:
        """Return what an engine is to be told, as it is now; for any thread."""
        return InventorySnapshot(self._told.copy())

    def take_changes(self) -> dict[str, dict[str, Any] | None]:
        """Return what changed since the last call, as the spool keeps it; None: forgotten."""
        changed, self._changed = self._changed, set()
        return {
            uuid: write_known(self._known[uuid]) if uuid in self._known else None
            for uuid in changed
        }

    # -- events --------------------------------------------------------------------------------
    def learn(self, raw: RawEvent) -> RawEvent | None:
        """Take in an event and complete it with what is known of its instance.

        :returns: the event with every fact of the instance, and with ``shutdown_by`` where a
            stop follows a shutdown, ``was_arriving`` where it never ran here, ``ended_by`` where
            a recovery had it stopped, or ``follows`` where a fact without a cause follows what
            explains it; None if a listing has told the same thing already.
        """
        uuid = raw.instance.uuid
        known = self._known.get(uuid)
        if known and _told_already(known, raw):
            self._put(uuid, dataclasses.replace(known, noticed=False))
            return None
        instance = merged(raw.instance, known.seen.instance if known else None)
        if raw.seen:
            instance = merged(raw.seen.instance, instance)
        attributes = dict(raw.attributes)
        if raw.type == "lifecycle.stopped" and known:
            attributes |= _before_its_stop(known)
        elif raw.type in WITHOUT_A_CAUSE and known:
            attributes |= _before_its_stop(known) | _explained_by(known)
        self._take_in(raw, instance, known)
        return dataclasses.replace(raw, instance=instance, attributes=attributes, seen=None)

    def _take_in(self, raw: RawEvent, instance: Instance, known: Known | None) -> None:
        uuid = instance.uuid
        if raw.type == "lifecycle.undefined":
            if known and known.seen.state not in states.ALIVE:
                self._forget(uuid)
            return
        if raw.type == "lifecycle.shutdown":
            if known:
                self._put(uuid, dataclasses.replace(known, stopping=raw.detail))
            return
        if raw.type == ENDING:
            if known:
                self._put(uuid, dataclasses.replace(known, ending=raw.detail == "begun"))
            return
        state = None if (raw.type, raw.detail) == DUMPS else states.STATE_AFTER.get(raw.type)
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
        arriving = (raw.type, raw.detail) == ARRIVING if state else bool(known and known.arriving)
        ending = bool(known and known.ending) and raw.type not in RUNNING_AGAIN
        at = raw.occurred_at
        self._put(uuid, Known(seen=seen, changed_at=at, arriving=arriving, ending=ending))

    # -- listings ------------------------------------------------------------------------------
    def compare(self, listing: SourceSnapshot, now: int) -> list[RawEvent]:
        """Take in a listing; return one event per difference from what was known.

        An instance of which an event came after the listing began is left as the event says.
        An instance that is seen for the first time, and is not in trouble, is no event.

        :param now: microseconds since the epoch. What is known from a later time is not newer
            than the listing: the clock was put back since.
        """
        self.listed = True
        events = []
        listed = set()
        for seen in listing.seen:
            listed.add(seen.instance.uuid)
            if not self._newer(seen.instance.uuid, listing, now):
                events += self._difference(seen, listing)
        for uuid, known in list(self._known.items()):
            gone = uuid not in listed and known.seen.state in states.ALIVE
            if gone and not self._newer(uuid, listing, now):
                events.append(self._vanished(known, listing))
        return events

    def _newer(self, uuid: str, listing: SourceSnapshot, now: int) -> bool:
        known = self._known.get(uuid)
        return known is not None and listing.started_at <= known.changed_at <= now

    def _difference(self, seen: Seen, listing: SourceSnapshot) -> list[RawEvent]:
        uuid = seen.instance.uuid
        known = self._known.get(uuid)
        if seen.state not in LEGIBLE:
            return []
        if known and not seen.definition:
            seen = dataclasses.replace(seen, definition=known.seen.definition)
        now = Known(
            seen=dataclasses.replace(
                seen, instance=merged(seen.instance, known.seen.instance if known else None)
            ),
            changed_at=listing.started_at,
            noticed=True,
            arriving=bool(known and known.arriving) and seen.state == states.PAUSED,
            ending=bool(known and known.ending and not _runs_anew(known.seen, seen)),
        )
        if known is None:
            trouble = _in_trouble(seen)
            self._put(uuid, dataclasses.replace(now, noticed=trouble))
            return [self._missed(now, listing)] if trouble else []
        if _same(known.seen, seen):
            if known.seen != now.seen:
                self._put(uuid, dataclasses.replace(now, noticed=known.noticed))
            return []
        self._put(uuid, now)
        return [self._missed(now, listing, known)]

    def _missed(
        self, now: Known, listing: SourceSnapshot, before: Known | None = None
    ) -> RawEvent:
        seen = now.seen
        event_type, detail = MISSED.get(
            (seen.state, seen.reason),
            (MISSED_TYPE.get(seen.state, f"lifecycle.{seen.state}"), seen.reason),
        )
        attributes: dict[str, Any] = {"noticed": listing.why}
        if before:
            attributes |= {"was": before.seen.state, "was_known_at": before.changed_at}
            if event_type == "lifecycle.stopped":
                attributes |= _before_its_stop(before)
        return RawEvent(
            source=listing.source,
            type=event_type,
            detail=detail,
            occurred_at=listing.started_at,
            instance=seen.instance,
            attributes=attributes,
        )

    def _vanished(self, known: Known, listing: SourceSnapshot) -> RawEvent:
        seen = dataclasses.replace(known.seen, state=states.SHUTOFF, reason=VANISHED, run_id=-1)
        at = listing.started_at
        now = Known(seen=seen, changed_at=at, noticed=True, ending=known.ending)
        self._put(seen.instance.uuid, now)
        return self._missed(now, listing, known)

    # -- tidying -------------------------------------------------------------------------------
    def forget(self, before: int) -> None:
        """Forget instances that their host does not keep and that are gone since ``before``.

        :param before: microseconds since the epoch.
        """
        for uuid, known in list(self._known.items()):
            gone = known.seen.state == states.SHUTOFF and (
                not known.seen.persistent or known.seen.reason == VANISHED
            )
            if gone and known.changed_at < before:
                self._forget(uuid)

    def _put(self, uuid: str, known: Known) -> None:
        self._known[uuid] = known
        self._changed.add(uuid)
        seen = _as_told(known)
        told = (seen, compute_checksum(seen))
        if self._told.get(uuid, (None, None))[1] != told[1]:
            self._told[uuid] = told
            self.version += 1

    def _forget(self, uuid: str) -> None:
        self._known.pop(uuid, None)
        self._changed.add(uuid)
        if self._told.pop(uuid, None):
            self.version += 1


def merged(first: Instance, second: Instance | None) -> Instance:
    """Return ``first`` with what it does not say taken from ``second``."""
    if second is None:
        return first
    facts = {
        field.name: getattr(first, field.name) or getattr(second, field.name)
        for field in dataclasses.fields(Instance)
    }
    if first.name == first.hypervisor_name and second.name:
        # A source that has only the hypervisor's name gives that for both.
        facts["name"] = second.name
    return Instance(**facts)


def _as_told(known: Known) -> Seen:
    """An instance that arrives by a migration runs where it comes from, whatever libvirt's event
    called it here: an engine must not take it for one that runs twice."""
    if known.arriving and known.seen.state == states.RUNNING:
        return dataclasses.replace(known.seen, state=states.PAUSED, reason="migration")
    return known.seen


def _before_its_stop(known: Known) -> dict[str, Any]:
    """What was under way, as attributes of the stop that follows."""
    attributes: dict[str, Any] = {"shutdown_by": known.stopping} if known.stopping else {}
    attributes |= {"was_arriving": True} if known.arriving else {}
    return attributes | ({"ended_by": "recovery"} if known.ending else {})


def _explained_by(known: Known) -> dict[str, str]:
    """Why its process ends, where that was told before: it stopped, its guest is shutting down,
    or it has moved to another host."""
    seen = known.seen
    if seen.state == states.SHUTOFF:
        return {"follows": f"lifecycle.stopped/{seen.reason}"}
    if known.stopping == BY_GUEST:
        return {"follows": f"lifecycle.shutdown/{BY_GUEST}"}
    if seen.state == states.PAUSED and _reason(seen) == MOVED:
        return {"follows": f"lifecycle.suspended/{MOVED}"}
    return {}


def _told_already(known: Known, raw: RawEvent) -> bool:
    """The event of a stop, crash or start that a listing told of before the event came."""
    if not known.noticed or raw.type not in TOLD_BY_LISTINGS:
        return False
    same_run = raw.seen is None or raw.seen.run_id == known.seen.run_id
    return states.STATE_AFTER[raw.type] == known.seen.state and same_run


def _in_trouble(seen: Seen) -> bool:
    """Whether an instance that was never seen before is in a state that nobody wants."""
    return seen.state == states.CRASHED or (
        seen.state == states.PAUSED
        and seen.reason in ("ioerror", "watchdog", "crashed", "api_error", "postcopy_failed")
    )


def _same(before: Seen, now: Seen) -> bool:
    """Whether nothing happened between two looks, as far as they can tell."""
    if before.state != now.state:
        return False
    if now.state == states.RUNNING:
        return before.run_id == now.run_id or -1 in (before.run_id, now.run_id)
    if now.state == states.SHUTOFF:
        return True
    return _reason(before) == _reason(now)


def _runs_anew(before: Seen, now: Seen) -> bool:
    return now.state in states.ALIVE and not _same(before, now)


def _reason(seen: Seen) -> str:
    """The reason in one wording: an event's detail and a state's reason differ in theirs."""
    return MISSED.get((seen.state, seen.reason), ("", seen.reason))[1]
