# SPDX-License-Identifier: Apache-2.0
"""The harm that must not be found after a round, and what a failed test shows of it."""

import time
from collections.abc import Iterator, Sequence

from vmmonitor.model.incident import HoldReason, Incident
from vmmonitor.model.states import IncidentState
from vmmonitor.testing.copies import CopyReport, counter
from vmmonitor.tests.fixtures.deployment import Deployment
from vmmonitor.tests.no_harm.owner import Owned

#: An engine works on it.
ACTIVE = (IncidentState.PENDING, IncidentState.RECOVERING)
#: The incident says why the guest is not recovered.
EXPLAINED = (
    IncidentState.UNHANDLED,
    IncidentState.HELD,
    IncidentState.SILENCED,
    IncidentState.UNRECOVERED,
)
MICROSECONDS = 1_000_000
#: Time between the read of the events and the call of a driver, in seconds, on a busy machine.
DECISION_S = 1.0
#: Time until a new QEMU answers on its monitor, in seconds, on a busy machine.
UNANSWERED_S = 2.0


def find_copies(one: Owned, report: CopyReport, since: float) -> Iterator[str]:
    """Yield the pairs of processes of a guest that were two copies after a time."""
    for overlap in report.overlaps:
        if overlap["last_at"] > since:
            yield f"two copies of {one.guest.name}: pids {overlap['pids']}: {overlap['why']}"


def find_starts_after_stops(one: Owned, report: CopyReport, since: float) -> Iterator[str]:
    """Yield the processes of a guest that started after a time although its owner stopped it."""
    for process in report.processes:
        for stopped_at, started_at in one.stops:
            if not _is_known_stop(stopped_at, report):
                continue
            if max(stopped_at, since) < process["seen_at"] < started_at:
                yield (
                    f"{one.guest.name} was started in {process['home']} at "
                    f"{_clock(process['seen_at'])} (pid {process['pid']}) although its owner "
                    f"stopped it at {_clock(stopped_at)}"
                )


def _is_known_stop(stopped_at: float, report: CopyReport) -> bool:
    """Return whether libvirt can report a stop.

    It reports nothing about the stop of a process that does not yet answer on its monitor, only
    that the start failed.
    """
    lives = [
        process["ended_at"] - process["seen_at"]
        for process in report.processes
        if process["seen_at"] < stopped_at and process["ended_at"]
    ]
    return not lives or lives[-1] > UNANSWERED_S


def find_calls_after_stops(
    one: Owned, deployment: Deployment, since: float, stalled: float
) -> Iterator[str]:
    """Yield the recoveries of a guest whose driver was called after its stop was stored.

    Only a stop on the host of the incident counts: another host cannot suppress a recovery.

    :param since: begin of the round, in seconds since the epoch.
    :param stalled: seconds that engines and the database were stalled during the round.
    """
    stored = [
        (event.event.host, event.corrected_at, event.stored_at)
        for event in deployment.events(one.uuid, "lifecycle.stopped")
        if event.event.detail == "destroyed"
    ]
    calls = [
        (incident.host, recovery)
        for incident in deployment.incidents(one.uuid)
        for recovery in deployment.recoveries(incident.incident_id)
        if recovery.called_at
    ]
    for stopped_at, started_at in one.stops:
        for host, recovery in calls:
            known_at = min(
                (
                    known
                    for stopped_on, at, known in stored
                    if stopped_on == host and abs(at - stopped_at * MICROSECONDS) < MICROSECONDS
                ),
                default=None,
            )
            if known_at is None:
                continue
            earliest = max(known_at + (DECISION_S + stalled) * MICROSECONDS, since * MICROSECONDS)
            if earliest < (recovery.called_at or 0) < started_at * MICROSECONDS:
                yield (
                    f"{one.guest.name}: recovery {recovery.recovery_id} (attempt "
                    f"{recovery.attempt}) called its driver at "
                    f"{_clock((recovery.called_at or 0) / MICROSECONDS)}; the stop by the owner "
                    f"was stored at {_clock(known_at / MICROSECONDS)}"
                )


def find_active(incidents: Sequence[Incident]) -> list[Incident]:
    """Return the incidents that an engine still works on; a held attempt waits."""
    return [
        incident
        for incident in incidents
        if incident.state in ACTIVE and incident.held_by in ("", HoldReason.CONCURRENCY)
    ]


def explain(incidents: Sequence[Incident], since: float) -> str:
    """Return why a guest is not recovered; empty without an explanation.

    :param since: begin of the round, in seconds since the epoch.
    """
    for incident in reversed(incidents):
        closed_before = incident.closed_at and incident.closed_at < since * MICROSECONDS
        is_held = incident.state in EXPLAINED or incident.held_by
        if is_held and not closed_before:
            return f"{incident.state}: {incident.reason}"
    return ""


def describe(one: Owned, deployment: Deployment, since: float) -> str:
    """Return the processes, events and incidents of a guest since a time, in order."""
    after = since * MICROSECONDS
    lines = [
        (stored.corrected_at, f"event {stored.event.cause} of {stored.event.host}")
        for stored in deployment.events(one.uuid)
    ]
    for incident in deployment.incidents(one.uuid):
        short = incident.incident_id[:8]
        lines.append((incident.opened_at, f"incident {short} on {incident.host} opened"))
        lines.append((incident.updated_at, f"incident {short} {incident.state}"))
        lines += [
            (step.at, f"incident {short} {step.kind}: {step.message}")
            for step in deployment.steps(incident.incident_id)
        ]
        lines += [
            (recovery.called_at, f"incident {short} calls driver, attempt {recovery.attempt}")
            for recovery in deployment.recoveries(incident.incident_id)
            if recovery.called_at
        ]
    shown = [f"  {_clock(at / MICROSECONDS)} {text}" for at, text in sorted(lines) if at > after]
    report = counter().report(one.uuid).describe()
    return "\n".join([f"{one.guest.name}, wanted {one.wish.value}", *shown, report])


def _clock(moment: float) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(moment)) + f"{moment % 1:.3f}"[1:]
