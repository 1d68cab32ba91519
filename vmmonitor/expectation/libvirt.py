# SPDX-License-Identifier: Apache-2.0
"""The expectation for hosts without OpenStack: judge a failure by the cause that libvirt reported.

It needs no connection and stores nothing.
"""

from collections.abc import Sequence

from vmmonitor.expectation import Expectation, operations
from vmmonitor.model import instance
from vmmonitor.model.desired import DesiredSnapshot, DesiredState, DesiredStatus
from vmmonitor.model.event import (
    HUNG,
    RECOVERED,
    RUNNING_AGAIN,
    STALLED,
    WITHOUT_A_CAUSE,
    Event,
    taken_back,
)
from vmmonitor.model.incident import Incident, Verdict, VerdictKind
from vmmonitor.model.observed import ObservedInstance

MIGRATED = "migrated"
#: Cause of the event that reports the arrival of an instance on its new host.
MIGRATION_ARRIVED = f"lifecycle.resumed/{MIGRATED}"
#: Causes in MEANINGS that are derived from attributes.
STOPPED_BY_HOST = "lifecycle.stopped/shutdown by host"
FAILED_ON_ARRIVAL = "lifecycle.stopped before it ran here"
FAILED_WHILE_PAUSED = "lifecycle.stopped while it was paused"

#: QEMU ends on a signal of a process of the host; it precedes the stop of an instance that ran.
START_ENDED = "lifecycle.shutdown/host"

STOPPED_PREFIX = "lifecycle.stopped/"
RECONCILED = ("reconcile.missing", "reconcile.not_running")
#: Observation of a pause; its details are those of lifecycle.suspended.
OBSERVED_PAUSE = "liveness.paused"

#: Causes of each verdict, with the reason. The newest event about the state decides: a user who
#: destroys an instance after its failure wants it stopped. The verdict on any other cause is
#: UNKNOWN. The details are those of libvirt's events and of the reasons of its states.
_FAILED = {
    "lifecycle.stopped/failed": "its process was killed or ended by itself",
    "lifecycle.stopped/crashed": "it was stopped because its guest crashed",
    "lifecycle.stopped/daemon": "libvirt stopped it when its daemon reconnected to it",
    STOPPED_BY_HOST: "a process on the host other than libvirt ended its process",
    "lifecycle.crashed/panicked": "its guest panicked",
    "lifecycle.crashed/unknown": "its guest crashed",
    "lifecycle.suspended/ioerror": "an error of its storage paused it",
    "lifecycle.suspended/watchdog": "it was paused because its guest hangs",
    "lifecycle.suspended/crashed": "it was paused because its guest crashed",
    "lifecycle.suspended/api_error": "libvirt paused it and could not resume it",
}
_PLANNED = {
    FAILED_ON_ARRIVAL: "its migration to this host failed, and it may run on the source host",
    "lifecycle.stopped/shutdown": "its guest shut down",
    "lifecycle.stopped/destroyed": "a user or an operator stopped it",
    "lifecycle.stopped/saved": "a user or an operator saved it",
    "lifecycle.stopped/migrated": "it was migrated to another host",
    "lifecycle.stopped/from_snapshot": "it was reverted to a stopped snapshot",
    "lifecycle.suspended/paused": "a user or an operator paused it",
    "lifecycle.suspended/user": "a user or an operator paused it",
    "lifecycle.suspended/migrated": "it is being migrated",
    "lifecycle.suspended/migration": "it is being migrated",
    "lifecycle.suspended/postcopy": "it is being migrated",
    "lifecycle.suspended/save": "it is being saved",
    "lifecycle.suspended/dump": "its memory is being dumped",
    "lifecycle.suspended/snapshot": "a snapshot of it is being created",
    "lifecycle.suspended/starting_up": "it is being started",
    "lifecycle.suspended/shutting_down": "it is being shut down",
    "lifecycle.suspended/restored": "it was restored paused",
    "lifecycle.suspended/from_snapshot": "it was reverted to a paused snapshot",
    "lifecycle.pmsuspended/memory": "its guest suspended itself",
    "lifecycle.pmsuspended/disk": "its guest suspended itself",
}
#: A recovery starts an instance running.
_MANUAL = {
    FAILED_WHILE_PAUSED: "a user or an operator had paused it, and a recovery would let it run",
}
_UNKNOWN = {
    "reconcile.missing": "it failed, or was stopped while its host was not monitored",
    "process.exited": "its process ended, and libvirt has not reported why",
    "lifecycle.stopped/vanished": (
        "it disappeared while its host was not monitored: it failed, or was stopped"
    ),
    "lifecycle.stopped/unknown": (
        "libvirt does not report why it stopped: it failed, or was stopped"
    ),
    "lifecycle.crashed/crashloaded": (
        "its guest runs its crash kernel, and any action would lose the dump"
    ),
    "lifecycle.suspended/postcopy_failed": (
        "its migration failed with its memory on two hosts, and a reset would lose the memory"
    ),
}
#: Cause -> verdict and reason.
MEANINGS: dict[str, tuple[VerdictKind, str]] = {
    cause: (kind, reason)
    for kind, reasons in (
        (VerdictKind.FAILED, _FAILED),
        (VerdictKind.PLANNED, _PLANNED),
        (VerdictKind.MANUAL, _MANUAL),
        (VerdictKind.UNKNOWN, _UNKNOWN),
    )
    for cause, reason in reasons.items()
}
#: Reconciliation reports a stopped instance with the detail of libvirt's missed event.
MEANINGS |= {
    f"{kind}/{cause.removeprefix(STOPPED_PREFIX)}": meaning
    for kind in RECONCILED
    for cause, meaning in list(MEANINGS.items())
    if cause.startswith(STOPPED_PREFIX)
}

#: Reasons of a pause that a user or an operator requested and that lasts.
REQUESTED_PAUSES = frozenset({"paused", "user", "restored", "from_snapshot"})

#: Failures that leave the state unchanged: they count if the instance was not stopped or paused
#: later.
SYMPTOMS = {
    "io_error": "one of its disks failed",
    "io_error_reason": "one of its disks failed",
    "block_io_error": "one of its disks failed",
    "watchdog": "its guest did not feed its watchdog in time",
}

#: Detail of HUNG -> reason; '' for any other detail.
HANG_REASONS = {
    "": "its QEMU does not respond",
    "stopped": "its QEMU process is stopped",
    "uninterruptible": "its QEMU process hangs in the kernel",
    "zombie": "its QEMU process has ended, except for a part",
}

#: Types of events about the state of an instance.
STATE_TYPES = frozenset({*instance.STATE_AFTER, *RECONCILED, OBSERVED_PAUSE})

DEFINITIONS = ("lifecycle.defined", "lifecycle.undefined")


class LibvirtExpectation(Expectation):
    """Treats a stop or a pause that was requested from libvirt as planned, any other as failed."""

    ASKED = "the host's events"
    QUESTION = "whether it failed or was stopped on purpose"

    def judge(self, incident: Incident, events: Sequence[Event]) -> Verdict:
        """Judge by the cause, and by the operations of nova if nova's notifications are read.

        :param events: events of the incident, and earlier events of nova, oldest first.
        """
        return operations.judge(incident, events, self.judge_by_cause(incident, events))

    def judge_by_cause(self, incident: Incident, events: Sequence[Event]) -> Verdict:
        """Judge by the newest event about the state of the instance. Pure.

        Only events of the incident's host count, and events from before the instance arrived
        there: a late event from the source host of a migration must not excuse a failure.

        :param events: events of the incident, oldest first.
        """
        here = _events_of_host(incident.host, events)
        newest = _newest_state_event(here)
        if newest is None:
            return _judge_symptoms(here) or Verdict(
                kind=VerdictKind.UNKNOWN, reason=f"{_newest_report(here)}: not conclusive"
            )
        last, since = here[newest], here[newest + 1 :]
        if last.type in RUNNING_AGAIN:
            return _judge_symptoms(since) or _verdict(last, VerdictKind.UNKNOWN, "it runs again")
        if instance.STATE_AFTER.get(last.type) == instance.SHUTOFF and _is_removed(since):
            return _verdict(last, VerdictKind.GONE, "and it was then removed from its host")
        if instance.STATE_AFTER.get(last.type) == instance.SHUTOFF and _is_start_ended(since):
            return _verdict(last, VerdictKind.UNKNOWN, "and its next start was ended on the host")
        return _verdict(last, *_meaning(last))

    def survey(self, since: int | None, observed: Sequence[ObservedInstance]) -> DesiredSnapshot:
        """Expect an instance to run on its host if it ran there and is lost. Pure.

        A lost instance ended, or was missing when an agent without stored inventory listed it,
        and no event gives the reason; or its host should have started it and could not. Other
        instances have no expected state.

        An instance that was stopped on purpose while its agent was away, and whose agent lost its
        inventory, looks the same: ``judge`` returns UNKNOWN for it, so that no action follows.
        """
        running = {
            found.seen.instance.uuid
            for found in observed
            if found.present and found.seen.state == instance.RUNNING
        }
        return DesiredSnapshot(
            states=[
                DesiredState(
                    instance=found.seen.instance,
                    host=found.host,
                    state=DesiredStatus.RUNNING,
                    updated_at=found.lost_at,
                )
                for found in observed
                if found.lost_at and found.seen.instance.uuid not in running
            ],
            whole=True,
        )


def _events_of_host(host: str, events: Sequence[Event]) -> list[Event]:
    """Return the events of a host, and those from before the instance arrived there."""
    arrivals = [
        index
        for index, event in enumerate(events)
        if (event.host, event.cause) == (host, MIGRATION_ARRIVED)
    ]
    arrived = arrivals[-1] if arrivals else -1
    before = [event for event in events[: arrived + 1] if event.detail != MIGRATED]
    return before + [event for event in events[arrived + 1 :] if event.host == host]


def _newest_state_event(events: Sequence[Event]) -> int | None:
    """Return the index of the newest event about the state, or None.

    The end of the process may have a later time than the stop that explains it, because the time
    of a listing is its beginning. The stop counts then.
    """
    found = [index for index, event in enumerate(events) if _concerns_state(event)]
    while len(found) > 1 and events[found[-1]].type in WITHOUT_A_CAUSE:
        before = instance.STATE_AFTER.get(events[found[-2]].type)
        if before not in (instance.SHUTOFF, instance.CRASHED):
            break
        found.pop()
    return found[-1] if found else None


def _concerns_state(event: Event) -> bool:
    if event.type in WITHOUT_A_CAUSE:
        return not ({"follows", "replaced"} & set(event.attributes))
    if event.type in STATE_TYPES:
        return True
    # A QEMU that responds again does not prove the state of the guest.
    return event.type in RUNNING_AGAIN and event.type != RECOVERED


def _meaning(event: Event) -> tuple[VerdictKind, str]:
    cause = _cause(event).replace(OBSERVED_PAUSE, "lifecycle.suspended")
    return MEANINGS.get(cause, (VerdictKind.UNKNOWN, "which is not conclusive"))


def _cause(event: Event) -> str:
    """Return the cause of an event, refined by its attributes.

    Stops with the same detail differ: a guest that shut down and a process that the host ended; an
    instance that ran on this host and one that never arrived or was paused.
    """
    if event.attributes.get("was_arriving") and event.type == "lifecycle.stopped":
        return FAILED_ON_ARRIVAL
    by_host = event.attributes.get("shutdown_by") == "host"
    is_shutdown = event.cause == "lifecycle.stopped/shutdown"
    cause = STOPPED_BY_HOST if is_shutdown and by_host else event.cause
    was_paused = event.attributes.get("was_paused") in REQUESTED_PAUSES
    return FAILED_WHILE_PAUSED if was_paused and cause in _FAILED else cause


def _is_removed(since: Sequence[Event]) -> bool:
    causes = [event.cause for event in since if event.type in DEFINITIONS]
    return bool(causes) and causes[-1] == "lifecycle.undefined/removed"


def _is_start_ended(since: Sequence[Event]) -> bool:
    """Return whether a process of a stopped instance was ended on the host while it started.

    A user who stops an instance during its start leaves no other event: libvirt sends the stop
    only for an instance that was started, and reports the start as failed.
    """
    return any(event.cause == START_ENDED for event in since)


def _judge_symptoms(since: Sequence[Event]) -> Verdict | None:
    over: set[str] = set()
    for event in reversed(since):
        over |= taken_back(event)
        reason = SYMPTOMS.get(event.type) or _hang_reason(event)
        if reason and event.type not in over:
            return _verdict(event, VerdictKind.FAILED, reason)
    return None


def _hang_reason(event: Event) -> str:
    """Return the reason if the event reports a hang of QEMU or the guest, else ''.

    A suspected hang may be an idle guest and does not count.
    """
    if event.type == HUNG:
        return HANG_REASONS.get(event.detail, HANG_REASONS[""])
    failed = (event.type, event.detail) == (STALLED, "failed")
    return "its guest makes no progress" if failed else ""


def _verdict(event: Event, kind: VerdictKind, reason: str) -> Verdict:
    return Verdict(kind=kind, reason=f"{event.source} reported {_cause(event)}: {reason}")


def _newest_report(events: Sequence[Event]) -> str:
    if not events:
        return "its host reported nothing"
    return f"{events[-1].source} reported {events[-1].cause}"
