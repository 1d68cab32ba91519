# SPDX-License-Identifier: Apache-2.0
"""Events that were missed, and the context of the events that came. Pure."""

from typing import Any

from vmmonitor.agent.known import Known
from vmmonitor.model import instance as states
from vmmonitor.model.event import RawEvent, SourceSnapshot
from vmmonitor.model.instance import Seen

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
#: First event of a migration to this host. The instance runs here only after it is resumed.
INCOMING_MIGRATION = ("lifecycle.started", "migrated")
#: Types of events that occur once in each run of an instance, and that a listing may anticipate.
ONCE_PER_RUN = frozenset({"lifecycle.started", "lifecycle.stopped", "lifecycle.crashed"})
#: Detail of the pause that ends a live migration on the source host.
MIGRATED_AWAY = "migrated"
#: Initiator of a shutdown from within the guest.
SHUTDOWN_BY_GUEST = "guest"
#: Reasons of a pause that are a failure even when the instance was never seen before.
FAILURE_PAUSES = frozenset({"ioerror", "watchdog", "crashed", "api_error", "postcopy_failed"})


def build_missed_event(
    now: Known, listing: SourceSnapshot, before: Known | None = None
) -> RawEvent:
    """Return the event that led to the state that a listing shows.

    :param before: the last known state; None without one.
    """
    seen = now.seen
    event_type, detail = MISSED_EVENTS.get(
        (seen.state, seen.reason),
        (MISSED_TYPES.get(seen.state, f"lifecycle.{seen.state}"), seen.reason),
    )
    if now.arriving and not (before and before.arriving):
        event_type, detail = INCOMING_MIGRATION
    attributes: dict[str, Any] = {"noticed": listing.why}
    if before:
        attributes |= {"was": before.seen.state, "was_known_at": before.changed_at}
        if event_type == "lifecycle.stopped":
            attributes |= stop_context(before)
    return RawEvent(
        source=listing.source,
        type=event_type,
        detail=detail,
        occurred_at=listing.started_at,
        instance=seen.instance,
        attributes=attributes,
    )


def stop_context(known: Known) -> dict[str, Any]:
    """Return the operations and the pause before a stop, as attributes of the stop."""
    attributes: dict[str, Any] = {"shutdown_by": known.stopping} if known.stopping else {}
    attributes |= {"was_arriving": True} if known.arriving else {}
    is_paused = known.seen.state == states.PAUSED
    attributes |= {"was_paused": known.seen.reason} if is_paused else {}
    return attributes | ({"ended_by": "recovery"} if known.ending else {})


def explain_exit(known: Known) -> dict[str, str]:
    """Return the earlier event that explains the end of a process, as an attribute.

    The instance stopped, its guest is shutting down, or it has migrated to another host.
    """
    seen = known.seen
    if seen.state == states.SHUTOFF:
        return {"follows": f"lifecycle.stopped/{seen.reason}"}
    if known.stopping == SHUTDOWN_BY_GUEST:
        return {"follows": f"lifecycle.shutdown/{SHUTDOWN_BY_GUEST}"}
    if seen.state == states.PAUSED and event_detail(seen) == MIGRATED_AWAY:
        return {"follows": f"lifecycle.suspended/{MIGRATED_AWAY}"}
    return {}


def is_duplicate(known: Known, raw: RawEvent) -> bool:
    """Return whether a listing has already shown the change that the event reports."""
    if not known.noticed or raw.type not in ONCE_PER_RUN:
        return False
    same_run = raw.seen is None or raw.seen.run_id == known.seen.run_id
    return states.STATE_AFTER[raw.type] == known.seen.state and same_run


def has_failed(seen: Seen) -> bool:
    """Return whether an instance that was never seen before is in a failure state."""
    return seen.state == states.CRASHED or (
        seen.state == states.PAUSED and seen.reason in FAILURE_PAUSES
    )


def is_unchanged(before: Seen, now: Seen) -> bool:
    """Return whether no event can have occurred between the listings."""
    if before.state != now.state:
        return False
    if now.state == states.RUNNING:
        return before.run_id == now.run_id or -1 in (before.run_id, now.run_id)
    if now.state == states.SHUTOFF:
        return True
    return event_detail(before) == event_detail(now)


def is_new_run(before: Seen, now: Seen) -> bool:
    return now.state in states.ALIVE and not is_unchanged(before, now)


def event_detail(seen: Seen) -> str:
    """Return the reason of a state in the wording of event details, which differs."""
    return MISSED_EVENTS.get((seen.state, seen.reason), ("", seen.reason))[1]
