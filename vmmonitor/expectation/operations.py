# SPDX-License-Identifier: Apache-2.0
"""What nova is doing to an instance, read from the events that its notifications became.

Pure. Nova tells of an operation before it touches libvirt, and again when it has ended. Only what
somebody asked for counts: nova also stops an instance by itself, some 15 s after it was found
dead, and that is no plan but a sign of the failure.
"""

import dataclasses
from collections.abc import Sequence

from vmmonitor.model.event import RUNNING_AGAIN, WITHOUT_A_CAUSE, Event
from vmmonitor.model.incident import Incident, Verdict, VerdictKind
from vmmonitor.model.instance import STATE_AFTER

PREFIX = "nova."
ERROR = "nova.error"
SECOND = 1_000_000
#: An operation of which nothing more is heard for so long, in seconds, is taken to be dead.
LIMIT = 600

#: How an operation leaves its instance: not running here, or running.
DOWN = "down"
UP = "up"

#: operation -> (how it leaves the instance, what nova is doing)
OPERATIONS = {
    "power_off": (DOWN, "powering it off"),
    "shutdown": (DOWN, "shutting it down"),
    "delete": (DOWN, "deleting it"),
    "soft_delete": (DOWN, "deleting it, for now"),
    "force_delete": (DOWN, "deleting it"),
    "pause": (DOWN, "pausing it"),
    "suspend": (DOWN, "suspending it"),
    "rescue": (DOWN, "rescuing it"),
    "shelve": (DOWN, "shelving it"),
    "shelve_offload": (DOWN, "shelving it"),
    "trigger_crash_dump": (DOWN, "crashing it, for a dump"),
    "reboot": (UP, "rebooting it"),
    "rebuild": (UP, "rebuilding it"),
    "evacuate": (UP, "evacuating it to another host"),
    "resize": (UP, "resizing or migrating it"),
    "live_migration": (UP, "migrating it to another host"),
    "snapshot": (UP, "making a snapshot of it"),
    "power_on": (UP, "starting it"),
    "unpause": (UP, "unpausing it"),
    "resume": (UP, "resuming it"),
    "unrescue": (UP, "ending its rescue"),
    "unshelve": (UP, "unshelving it"),
    "restore": (UP, "restoring it"),
}

#: Phase of a part that ends while its operation goes on.
GOES_ON = "goes on"
#: What nova tells of parts of an operation, or of its end under another name:
#: (type's word, phase) -> (operation, phase). The phases of other operations are their own.
PARTS = {
    ("resize_prep", "start"): ("resize", "start"),
    ("resize_prep", "end"): ("resize", GOES_ON),
    ("resize", "end"): ("resize", GOES_ON),
    ("resize_finish", "start"): ("resize", "start"),
    ("resize_finish", "end"): ("resize", "end"),
    ("resize_confirm", "start"): ("resize", "start"),
    ("resize_confirm", "end"): ("resize", "end"),
    ("resize_revert", "start"): ("resize", "start"),
    ("resize_revert", "end"): ("resize", "end"),
    ("live_migration_pre", "start"): ("live_migration", "start"),
    ("live_migration_pre", "end"): ("live_migration", GOES_ON),
    ("live_migration_post", "end"): ("live_migration", "end"),
    ("live_migration_post_dest", "end"): ("live_migration", "end"),
    ("live_migration_rollback", "start"): ("live_migration", "error"),
    ("live_migration_abort", "start"): ("live_migration", "error"),
}
PART_OF = {part: operation for (part, _), (operation, _) in PARTS.items()}

#: What a host says of an instance that is not there, or not running.
ENDED = WITHOUT_A_CAUSE | {
    *("lifecycle.stopped", "reconcile.missing", "reconcile.not_running"),
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What nova does, or did last, because somebody asked for it.

    :param doing: ``powering it off``.
    :param leaves: DOWN or UP.
    :param over: whether nova told of its end.
    :param at: when nova last told of it; microseconds since the epoch.
    :param by: who asked for it.
    """

    doing: str
    leaves: str
    over: bool
    at: int
    by: str

    @property
    def words(self) -> str:
        """One sentence for a person."""
        state = "is done with" if self.over else "is"
        return f"nova {state} {self.doing}, as {self.by} asked"


def plan(incident: Incident, events: Sequence[Event]) -> Plan | None:
    """Return what nova is doing to an incident's instance, or has done and left it DOWN.

    :param events: the incident's, and nova's of the time before it, oldest first.
    :returns: None if nova tells of nothing, if it failed at it, if the instance is to run by
        now, or if its end does not come.
    """
    newest: Plan | None = None
    for event in sorted(events, key=lambda one: one.occurred_at):
        newest = _after(newest, event)
    if newest is None or incident.opened_at - newest.at > LIMIT * SECOND:
        return None
    return None if newest.over and newest.leaves == UP else newest


def judge(incident: Incident, events: Sequence[Event], otherwise: Verdict) -> Verdict:
    """Return a verdict, or what nova's plan for the instance makes of it.

    What nova brings down on purpose is PLANNED, whatever the host saw. While nova works on an
    instance that is to run afterwards, a stop is a part of that too; but a clear failure, which
    nova may or may not put right, has to be looked at again.

    :param events: as for ``plan``.
    :param otherwise: the verdict without nova.
    """
    doing = plan(incident, events)
    if doing is None or otherwise.kind in (VerdictKind.PLANNED, VerdictKind.GONE):
        return otherwise
    if doing.leaves == DOWN or (
        otherwise.kind == VerdictKind.UNKNOWN and _ended(incident, events)
    ):
        return Verdict(kind=VerdictKind.PLANNED, reason=doing.words)
    reason = f"{otherwise.reason}; {doing.words}, and what comes of that is to be seen"
    return Verdict(kind=VerdictKind.UNKNOWN, reason=reason)


def _ended(incident: Incident, events: Sequence[Event]) -> bool:
    """Tell whether its host has last said of an instance that it is not there, or not running."""
    told = [
        event.type
        for event in events
        if event.host == incident.host and (event.type in STATE_AFTER or event.type in ENDED)
    ]
    return bool(told) and told[-1] in ENDED


def _after(before: Plan | None, event: Event) -> Plan | None:
    """Return what nova does after an event, given what it did before."""
    if event.type in RUNNING_AGAIN:
        return None if before is None or before.over else before
    if event.type == ERROR:
        return None
    operation, phase = _step(event)
    if not operation:
        return before
    if phase == "error" or (phase == GOES_ON and before is None):
        return None
    leaves, doing = OPERATIONS[operation]
    by = str(event.attributes.get("by_user") or event.attributes.get("by_user_id") or "")
    if not by:
        return None if leaves == UP else before
    return Plan(doing=doing, leaves=leaves, over=phase == "end", at=event.occurred_at, by=by)


def _step(event: Event) -> tuple[str, str]:
    """Return the operation and the phase that an event tells of; none if it tells of no other."""
    word = event.type.removeprefix(PREFIX)
    if word == event.type or not event.detail:
        return "", ""
    operation, phase = PARTS.get((word, event.detail), (word, event.detail))
    if phase == "error":
        operation = PART_OF.get(word, operation)
    return (operation, phase) if operation in OPERATIONS else ("", "")
