# SPDX-License-Identifier: Apache-2.0
"""Leaves out events that a recovery of the incident caused itself, before the verdict. Pure.

A driver may stop an instance in order to start it again: nova's hard reboot does, and the agent
stops a QEMU that hangs. libvirt and nova report such a stop like one that a user requested. If the
start fails, or the engine dies before it, the stop must not make the next verdict ``planned``.

A stop that a user requests during the call of a driver looks the same in the events. It
still ends the recovery: the expectation reads the state of the server in nova, and the agent reads
the reason of the state in libvirt.

An agent announces that it stops a hung instance by force. If it dies then, its successor reports
that stop, whose reason may be lost.
"""

from collections.abc import Iterable, Sequence

from vmmonitor.expectation import operations
from vmmonitor.expectation.libvirt import MEANINGS, START_ENDED
from vmmonitor.model.clock import SECOND
from vmmonitor.model.event import ENDING, RUNNING_AGAIN, Event, StoredEvent
from vmmonitor.model.incident import VerdictKind
from vmmonitor.model.recovery import Recovery

STOPPED = "lifecycle.stopped"
#: Detail of ``ENDING`` before a forced stop.
BEGUN = "begun"
#: Maximum error of a corrected time of a host, in microseconds.
CLOCK_ERROR = SECOND // 2


def exclude_own_effects(
    stored: Iterable[StoredEvent], recoveries: Sequence[Recovery], now: int
) -> list[Event]:
    """Return the events that the recoveries of their incident did not cause.

    :param recoveries: those of the incident, in any state.
    :param now: microseconds since the epoch, engines' clock: until then a driver that has not
        returned may have acted.
    """
    calls = [
        (_begin(each) - CLOCK_ERROR, (each.returned_at or each.finished_at or now) + CLOCK_ERROR)
        for each in recoveries
        if each.called_at is not None
    ]
    found: list[Event] = []
    is_forced = False
    for each in stored:
        is_forced = _is_forced_after(each.event, is_forced)
        is_effect = _looks_planned(each.event) and any(
            begin <= each.corrected_at <= end for begin, end in calls
        )
        if not is_effect and not (is_forced and _may_be_forced(each.event)):
            found.append(each.event)
        elif each.event.type == STOPPED and found and _begins(found[-1], each.event):
            found.pop()
    return found


def _is_forced_after(event: Event, is_forced: bool) -> bool:
    """Return whether, after an event, a forced stop of the instance has begun."""
    if event.type == ENDING:
        return event.detail == BEGUN
    return is_forced and event.type not in RUNNING_AGAIN


def _may_be_forced(event: Event) -> bool:
    """Return whether a forced stop can be reported like this."""
    kind, _ = MEANINGS.get(event.cause, (None, ""))
    return event.type == STOPPED and kind in (VerdictKind.PLANNED, VerdictKind.UNKNOWN)


def _begins(shutdown: Event, stop: Event) -> bool:
    """Return whether the event is the first one of a stop."""
    return (shutdown.cause, shutdown.host) == (START_ENDED, stop.host)


def _begin(recovery: Recovery) -> int:
    """Return the time of the first call; a takeover replaces ``called_at``."""
    called_at = recovery.called_at or 0
    return min(called_at, recovery.not_before) if recovery.takeovers else called_at


def _looks_planned(event: Event) -> bool:
    kind, _ = MEANINGS.get(event.cause, (None, ""))
    return kind == VerdictKind.PLANNED or event.type.startswith(operations.NOVA_PREFIX)
