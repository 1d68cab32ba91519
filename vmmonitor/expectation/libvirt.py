# SPDX-License-Identifier: Apache-2.0
"""Goes by the cause that libvirt gave; needs no OpenStack, no connection and no memory."""

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

MOVE = "migrated"
ARRIVED = f"lifecycle.resumed/{MOVE}"
BY_HOST = "lifecycle.stopped/shutdown by host"
ARRIVING = "lifecycle.stopped before it ran here"

STOPPED = "lifecycle.stopped/"
RECONCILED = frozenset({"reconcile.missing", "reconcile.not_running"})

#: What the newest word on an instance's state means. The newest decides: somebody who destroys
#: an instance after its failure wants it stopped. A cause that is not here is UNKNOWN. The
#: details are those of libvirt's events, and the reasons that it gives to whoever looks later.
MEANING = {
    "reconcile.missing": (
        VerdictKind.UNKNOWN,
        "it may have failed, or somebody had it stopped while nobody watched",
    ),
    "lifecycle.stopped/failed": (VerdictKind.FAILED, "its process was killed or ended by itself"),
    "lifecycle.stopped/crashed": (VerdictKind.FAILED, "it was stopped because its guest crashed"),
    "lifecycle.stopped/daemon": (VerdictKind.FAILED, "libvirt gave it up when it came back to it"),
    BY_HOST: (
        VerdictKind.FAILED,
        "its process was told to end by something on the host other than libvirt",
    ),
    "lifecycle.crashed/panicked": (VerdictKind.FAILED, "its guest panicked"),
    "lifecycle.crashed/unknown": (VerdictKind.FAILED, "its guest crashed"),
    "lifecycle.suspended/ioerror": (
        VerdictKind.FAILED,
        "it was paused by an error of its storage",
    ),
    "lifecycle.suspended/watchdog": (VerdictKind.FAILED, "it was paused because its guest hangs"),
    "lifecycle.suspended/crashed": (VerdictKind.FAILED, "it was paused because its guest crashed"),
    "lifecycle.suspended/api_error": (
        VerdictKind.FAILED,
        "libvirt paused it and could not resume it",
    ),
    ARRIVING: (
        VerdictKind.PLANNED,
        "its migration to this host failed, and it may run where it was",
    ),
    "lifecycle.stopped/shutdown": (VerdictKind.PLANNED, "its guest was shut down"),
    "lifecycle.stopped/destroyed": (VerdictKind.PLANNED, "somebody had it stopped"),
    "lifecycle.stopped/saved": (VerdictKind.PLANNED, "somebody had it saved"),
    "lifecycle.stopped/migrated": (VerdictKind.PLANNED, "it was migrated to another host"),
    "lifecycle.stopped/from_snapshot": (
        VerdictKind.PLANNED,
        "it was put back to a stopped snapshot",
    ),
    "lifecycle.suspended/paused": (VerdictKind.PLANNED, "somebody had it paused"),
    "lifecycle.suspended/user": (VerdictKind.PLANNED, "somebody had it paused"),
    "lifecycle.suspended/migrated": (VerdictKind.PLANNED, "it is being migrated"),
    "lifecycle.suspended/migration": (VerdictKind.PLANNED, "it is being migrated"),
    "lifecycle.suspended/postcopy": (VerdictKind.PLANNED, "it is being migrated"),
    "lifecycle.suspended/save": (VerdictKind.PLANNED, "it is being saved"),
    "lifecycle.suspended/dump": (VerdictKind.PLANNED, "its memory is being dumped"),
    "lifecycle.suspended/snapshot": (VerdictKind.PLANNED, "a snapshot of it is being made"),
    "lifecycle.suspended/starting_up": (VerdictKind.PLANNED, "it is being started"),
    "lifecycle.suspended/shutting_down": (VerdictKind.PLANNED, "it is being shut down"),
    "lifecycle.suspended/restored": (VerdictKind.PLANNED, "it was restored paused"),
    "lifecycle.suspended/from_snapshot": (
        VerdictKind.PLANNED,
        "it was put back to a paused snapshot",
    ),
    "lifecycle.pmsuspended/memory": (VerdictKind.PLANNED, "its guest went to sleep"),
    "lifecycle.pmsuspended/disk": (VerdictKind.PLANNED, "its guest went to sleep"),
    "process.exited": (VerdictKind.UNKNOWN, "its process ended, and libvirt has not said why yet"),
    "lifecycle.stopped/vanished": (
        VerdictKind.UNKNOWN,
        "it disappeared while nobody watched: it may have failed, or somebody had it stopped",
    ),
    "lifecycle.stopped/unknown": (
        VerdictKind.UNKNOWN,
        "libvirt does not know why it stopped: it may have failed, or somebody had it stopped",
    ),
    "lifecycle.crashed/crashloaded": (
        VerdictKind.UNKNOWN,
        "its guest runs its crash kernel, and whoever disturbs it loses the dump",
    ),
    "lifecycle.suspended/postcopy_failed": (
        VerdictKind.UNKNOWN,
        "its migration broke off with its memory on two hosts, and a reset would lose it",
    ),
}

#: Reconciliation finds an instance stopped for the reasons that libvirt's event would have told.
MEANING |= {
    f"{kind}/{cause.removeprefix(STOPPED)}": meaning
    for kind in ("reconcile.missing", "reconcile.not_running")
    for cause, meaning in list(MEANING.items())
    if cause.startswith(STOPPED)
}

#: Failures that leave the state as it was: they count where the instance was not stopped or
#: paused since.
SYMPTOMS = {
    "io_error": "one of its disks failed",
    "io_error_reason": "one of its disks failed",
    "block_io_error": "one of its disks failed",
    "watchdog": "its guest did not feed its watchdog in time",
}

#: What hangs, by the event's detail, or that of anything else that does not answer.
HANGS = {
    "": "its QEMU does not answer",
    "stopped": "its QEMU process is stopped",
    "uninterruptible": "its QEMU process hangs in the kernel",
    "zombie": "its QEMU process has ended, but not all of it",
}
#: What somebody saw who looked; its reasons are those of lifecycle.suspended.
PAUSED = "liveness.paused"

#: What tells an instance's state.
STATES = frozenset(instance.STATE_AFTER) | RECONCILED | {PAUSED}

DEFINITIONS = ("lifecycle.defined", "lifecycle.undefined")


class LibvirtExpectation(Expectation):
    """Takes a stop or a pause that somebody asked libvirt for as planned, any other as failed."""

    ASKED = "the host's events"
    QUESTION = "whether it failed or was stopped on purpose"

    def judge(self, incident: Incident, events: Sequence[Event]) -> Verdict:
        """Judge by the cause, and by what nova has told of its operations, if it is listened to.

        :param events: the incident's, and nova's of the time before it, oldest first.
        """
        return operations.judge(incident, events, self.by_cause(incident, events))

    def by_cause(self, incident: Incident, events: Sequence[Event]) -> Verdict:
        """Judge by the newest event that says what state the instance is in.

        Pure. Only what the incident's own host said counts, and what was said of the instance
        before it arrived there: a late word from the host that it was migrated away from must
        not excuse its failure on the new one.

        :param events: the incident's events, oldest first.
        """
        here = _said_where_it_is(incident.host, events)
        newest = _newest_word(here)
        if newest is None:
            return _symptom(here) or Verdict(
                kind=VerdictKind.UNKNOWN, reason=f"{_said(here)}: not conclusive"
            )
        last, since = here[newest], here[newest + 1 :]
        if last.type in RUNNING_AGAIN:
            return _symptom(since) or _verdict(last, VerdictKind.UNKNOWN, "it runs again")
        if instance.STATE_AFTER.get(last.type) == instance.SHUTOFF and _is_removed(since):
            return _verdict(last, VerdictKind.GONE, "and it was removed from its host then")
        return _verdict(last, *_meaning(last))

    def survey(self, since: int | None, sights: Sequence[ObservedInstance]) -> DesiredSnapshot:
        """Expect to run on its host what ran there and is lost: it ended, or was gone when an
        agent without memory looked, and no event says why; or its host should have started it,
        and could not. Of anything else nothing is expected.

        Pure. It cannot be told where an instance was stopped on purpose while its agent was away
        that has lost its memory since: ``judge`` calls that unknown, and nothing acts on it.
        """
        running = {
            sight.seen.instance.uuid
            for sight in sights
            if sight.present and sight.seen.state == instance.RUNNING
        }
        return DesiredSnapshot(
            states=[
                DesiredState(
                    instance=sight.seen.instance,
                    host=sight.host,
                    state=DesiredStatus.RUNNING,
                    updated_at=sight.lost_at,
                )
                for sight in sights
                if sight.lost_at and sight.seen.instance.uuid not in running
            ],
            whole=True,
        )


def _said_where_it_is(host: str, events: Sequence[Event]) -> list[Event]:
    arrivals = [i for i, one in enumerate(events) if (one.host, one.cause) == (host, ARRIVED)]
    arrived = arrivals[-1] if arrivals else -1
    before = [event for event in events[: arrived + 1] if event.detail != MOVE]
    return before + [event for event in events[arrived + 1 :] if event.host == host]


def _newest_word(events: Sequence[Event]) -> int | None:
    """Return the index of the newest event that tells the state; None if none does.

    The end of the process may be stamped later than the stop that explains it, which is still
    what counts: a listing is as old as its beginning.
    """
    telling = [i for i, event in enumerate(events) if _tells_state(event)]
    while len(telling) > 1 and events[telling[-1]].type in WITHOUT_A_CAUSE:
        before = instance.STATE_AFTER.get(events[telling[-2]].type)
        if before not in (instance.SHUTOFF, instance.CRASHED):
            break
        telling.pop()
    return telling[-1] if telling else None


def _tells_state(event: Event) -> bool:
    if event.type in WITHOUT_A_CAUSE:
        return not ({"follows", "replaced"} & set(event.attributes))
    if event.type in STATES:
        return True
    # That QEMU answers says nothing of the guest.
    return event.type in RUNNING_AGAIN and event.type != RECOVERED


def _meaning(event: Event) -> tuple[VerdictKind, str]:
    cause = _cause(event).replace(PAUSED, "lifecycle.suspended")
    return MEANING.get(cause, (VerdictKind.UNKNOWN, "which is not conclusive"))


def _cause(event: Event) -> str:
    """Tell apart stops of one name: of a guest that shut itself down and of a process that the
    host's administrator ended; of an instance that ran here and of one that never did."""
    if event.attributes.get("was_arriving") and event.type == "lifecycle.stopped":
        return ARRIVING
    by_host = event.attributes.get("shutdown_by") == "host"
    return BY_HOST if event.cause == "lifecycle.stopped/shutdown" and by_host else event.cause


def _is_removed(since: Sequence[Event]) -> bool:
    words = [event.cause for event in since if event.type in DEFINITIONS]
    return bool(words) and words[-1] == "lifecycle.undefined/removed"


def _symptom(since: Sequence[Event]) -> Verdict | None:
    over: set[str] = set()
    for event in reversed(since):
        over |= taken_back(event)
        meaning = SYMPTOMS.get(event.type) or _hangs(event)
        if meaning and event.type not in over:
            return _verdict(event, VerdictKind.FAILED, meaning)
    return None


def _hangs(event: Event) -> str:
    """Return what it means that a QEMU or a guest hangs; empty if the event does not say so.

    A suspect is one that may as well be idle.
    """
    if event.type == HUNG:
        return HANGS.get(event.detail, HANGS[""])
    failed = (event.type, event.detail) == (STALLED, "failed")
    return "its guest stands still" if failed else ""


def _verdict(event: Event, kind: VerdictKind, meaning: str) -> Verdict:
    return Verdict(kind=kind, reason=f"{event.source} said {_cause(event)}: {meaning}")


def _said(events: Sequence[Event]) -> str:
    if not events:
        return "nothing is known from its host"
    return f"{events[-1].source} said {events[-1].cause}"
