# SPDX-License-Identifier: Apache-2.0
"""Derive planned operations on an instance from nova's notifications.

nova sends a notification about an operation before it calls libvirt, and another one when the
operation has ended. Only operations that a user requested count: nova also stops an instance by
itself, about 15 s after it found it dead, and that is a sign of the failure.
"""

import dataclasses
import enum
from collections.abc import Sequence

from vmmonitor.model.clock import SECOND
from vmmonitor.model.event import NOVA_SOURCE, RUNNING_AGAIN, Event
from vmmonitor.model.incident import Incident, Verdict, VerdictKind

NOVA_PREFIX = "nova."
NOVA_ERROR = "nova.error"
#: Maximum time since the newest event of an operation that counts, in seconds.
MAX_SILENCE = 600


class Effect(enum.StrEnum):
    """The state of the instance after an operation."""

    #: It does not run here.
    DOWN = "down"
    #: It is paused or rescued: its process runs, and must not be started again if it ends.
    AT_REST = "at rest"
    #: It runs.
    UP = "up"


#: Operation -> its effect, and the activity of nova.
OPERATIONS = {
    "power_off": (Effect.DOWN, "powering it off"),
    "shutdown": (Effect.DOWN, "shutting it down"),
    "delete": (Effect.DOWN, "deleting it"),
    "soft_delete": (Effect.DOWN, "soft-deleting it"),
    "force_delete": (Effect.DOWN, "deleting it"),
    "pause": (Effect.AT_REST, "pausing it"),
    "suspend": (Effect.DOWN, "suspending it"),
    "rescue": (Effect.AT_REST, "rescuing it"),
    "shelve": (Effect.DOWN, "shelving it"),
    "shelve_offload": (Effect.DOWN, "shelving it"),
    "trigger_crash_dump": (Effect.DOWN, "crashing it for a dump"),
    "reboot": (Effect.UP, "rebooting it"),
    "rebuild": (Effect.UP, "rebuilding it"),
    "evacuate": (Effect.UP, "evacuating it to another host"),
    "resize": (Effect.UP, "resizing or migrating it"),
    "live_migration": (Effect.UP, "migrating it to another host"),
    "snapshot": (Effect.UP, "making a snapshot of it"),
    "power_on": (Effect.UP, "starting it"),
    "unpause": (Effect.UP, "unpausing it"),
    "resume": (Effect.UP, "resuming it"),
    "unrescue": (Effect.UP, "ending its rescue"),
    "unshelve": (Effect.UP, "unshelving it"),
    "restore": (Effect.UP, "restoring it"),
}

#: Phase after the end of a part, while the operation continues.
CONTINUES = "continues"
#: Name and phase in a notification -> operation and its phase, for notifications about a part of
#: an operation, or with another name. Other notifications have those of the operation.
PARTS = {
    ("resize_prep", "start"): ("resize", "start"),
    ("resize_prep", "end"): ("resize", CONTINUES),
    ("resize", "end"): ("resize", CONTINUES),
    ("resize_finish", "start"): ("resize", "start"),
    ("resize_finish", "end"): ("resize", "end"),
    ("resize_confirm", "start"): ("resize", "start"),
    ("resize_confirm", "end"): ("resize", "end"),
    ("resize_revert", "start"): ("resize", "start"),
    ("resize_revert", "end"): ("resize", "end"),
    ("live_migration_pre", "start"): ("live_migration", "start"),
    ("live_migration_pre", "end"): ("live_migration", CONTINUES),
    ("live_migration_post", "end"): ("live_migration", "end"),
    ("live_migration_post_dest", "end"): ("live_migration", "end"),
    ("live_migration_rollback", "start"): ("live_migration", "error"),
    ("live_migration_abort", "start"): ("live_migration", "error"),
}
OPERATION_OF_PART = {part: operation for (part, _), (operation, _) in PARTS.items()}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class NovaOperation:
    """An operation of nova that a user requested.

    :param activity: what nova does: ``powering it off``.
    :param effect: the state of the instance afterwards.
    :param is_over: whether nova reported the end.
    :param at: time of nova's newest event about it, in microseconds since the epoch.
    :param user: the user who requested it.
    """

    activity: str
    effect: Effect
    is_over: bool
    at: int
    user: str

    def explains(self, by_events: Verdict) -> bool:
        """Return whether the operation explains what the host reported.

        A stop by a user explains any end of the guest once it has finished. Until then it may
        fail, and a failure that the host reports may have another cause.

        :param by_events: the verdict by the events of the host.
        """
        is_failure = by_events.kind in (VerdictKind.FAILED, VerdictKind.MANUAL)
        return self.effect == Effect.DOWN and (self.is_over or not is_failure)

    def __str__(self) -> str:
        """Return the operation as a clause."""
        state = "has finished" if self.is_over else "is"
        return f"nova {state} {self.activity}, requested by {self.user}"


def current_operation(incident: Incident, events: Sequence[Event]) -> NovaOperation | None:
    """Return nova's operation on an incident's instance, unless it has ended with the effect UP.

    :param events: events of the incident, and earlier events of nova, oldest first.
    :returns: None without such events, if the operation failed, if the instance should be
        running by now, or if the end was not reported in time.
    """
    newest: NovaOperation | None = None
    for event in sorted(events, key=lambda event: event.occurred_at):
        newest = _operation_after(newest, event)
    if newest is None or incident.opened_at - newest.at > MAX_SILENCE * SECOND:
        return None
    return None if newest.is_over and newest.effect == Effect.UP else newest


def judge(incident: Incident, events: Sequence[Event], otherwise: Verdict) -> Verdict:
    """Return a verdict that takes nova's operation on the instance into account.

    A finished operation with the effect DOWN makes the verdict PLANNED, for any report of the
    host; one in progress does so unless the host reports a failure. A failure of an instance that
    a user paused or rescued is MANUAL, because a recovery would start it. In all other cases the
    operation may or may not bring the instance back, so that it has to be judged again.

    :param events: as for ``current_operation``.
    :param otherwise: the verdict without an operation.
    """
    operation = current_operation(incident, events)
    if operation is None or otherwise.kind in (VerdictKind.PLANNED, VerdictKind.GONE):
        return otherwise
    if operation.explains(otherwise):
        return Verdict(kind=VerdictKind.PLANNED, reason=str(operation))
    if operation.is_over and operation.effect == Effect.AT_REST:
        is_failure = otherwise.kind in (VerdictKind.FAILED, VerdictKind.MANUAL)
        kind = VerdictKind.MANUAL if is_failure else VerdictKind.UNKNOWN
        return Verdict(kind=kind, reason=f"{otherwise.reason}; {operation}")
    reason = f"{otherwise.reason}; {operation}, and its result is not known yet"
    return Verdict(kind=VerdictKind.UNKNOWN, reason=reason)


def _operation_after(before: NovaOperation | None, event: Event) -> NovaOperation | None:
    """Return the operation after an event, given the operation before it."""
    if event.type in RUNNING_AGAIN:
        return None if before is None or before.is_over else before
    if event.source != NOVA_SOURCE:
        return before
    if event.type == NOVA_ERROR:
        return None
    name, phase = _parse(event)
    if not name:
        return before
    if phase == "error" or (phase == CONTINUES and before is None):
        return None
    effect, activity = OPERATIONS[name]
    user = str(event.attributes.get("by_user") or event.attributes.get("by_user_id") or "")
    if not user:
        return None if effect == Effect.UP else before
    return NovaOperation(
        activity=activity, effect=effect, is_over=phase == "end", at=event.occurred_at, user=user
    )


def _parse(event: Event) -> tuple[str, str]:
    """Return the name and phase of the operation that an event reports, else ('', '')."""
    word = event.type.removeprefix(NOVA_PREFIX)
    if word == event.type or not event.detail:
        return "", ""
    name, phase = PARTS.get((word, event.detail), (word, event.detail))
    if phase == "error":
        name = OPERATION_OF_PART.get(word, name)
    return (name, phase) if name in OPERATIONS else ("", "")
