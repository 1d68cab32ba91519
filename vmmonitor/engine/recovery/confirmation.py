# SPDX-License-Identifier: Apache-2.0
"""Confirms a failure with the agent of its host before a driver is called.

A verdict is based on events, which may be wrong, late or forged. The agent examines the instance
while the expectation is queried, so that a confirmation costs no additional time.
"""

import concurrent.futures
import dataclasses
from collections.abc import Sequence

from oslo_config import cfg
from oslo_log import log

from vmmonitor.bounded_call import BoundedCalls, TooManyCalls
from vmmonitor.drivers import HostAgents
from vmmonitor.drivers.libvirt import newest_failure
from vmmonitor.model import instance as states
from vmmonitor.model.errors import VmmonitorError
from vmmonitor.model.event import ENGINE_SOURCES, StoredEvent
from vmmonitor.model.incident import Incident, IncidentKind, Verdict, VerdictKind
from vmmonitor.model.inspection import ABSENT_STATE, Inspection
from vmmonitor.rpc.authentication import engine_trusts_bus
from vmmonitor.rules.policies import Policy

LOG = log.getLogger(__name__)

#: Maximum time, in seconds, to wait for an agent.
INSPECTION_TIMEOUT = 1.0
#: Maximum number of inspections in progress for each worker.
INSPECTIONS_PER_WORKER = 2
#: Drivers that do not act on an instance.
HARMLESS_DRIVERS = frozenset({"log"})
#: Types of events that report an instance as stopped.
STOP_TYPES = frozenset(
    {"lifecycle.stopped", "process.exited", "reconcile.missing", "reconcile.not_running"}
)
#: States of an instance that a stop leaves.
_DOWN = frozenset({states.SHUTOFF, states.CRASHED, ABSENT_STATE, ""})


@dataclasses.dataclass(frozen=True, slots=True)
class PendingInspection:
    """An inspection in progress.

    :param found: its result; None if it was not begun.
    """

    found: "concurrent.futures.Future[Inspection] | None"


class Confirmation:
    """Asks the agents of hosts for the state of instances. Thread-safe."""

    def __init__(self, conf: cfg.ConfigOpts, agents: HostAgents):
        """Ask nothing yet."""
        self._agents = agents
        self._trusts_bus = engine_trusts_bus(conf)
        self._calls = BoundedCalls(INSPECTIONS_PER_WORKER * conf.recovery.workers)

    def begin(self, incident: Incident, policy: Policy | None) -> PendingInspection | None:
        """Begin to inspect the instance of an incident.

        :returns: None if no driver that acts on the instance can be called: the incident concerns
            a host, or its policy has no such step.
        """
        if incident.kind != IncidentKind.INSTANCE or not _acts(policy):
            return None
        host, uuid = incident.host, incident.instance.uuid

        def inspect() -> Inspection:
            return self._agents.inspect(host, uuid, INSPECTION_TIMEOUT)

        try:
            return PendingInspection(self._calls.begin("inspection", inspect))
        except (TooManyCalls, RuntimeError) as error:
            LOG.warning("Instance %s on host %s is not inspected: %s", uuid, host, error)
            return PendingInspection(None)

    def confirm(
        self,
        verdict: Verdict,
        incident: Incident,
        stored: Sequence[StoredEvent],
        pending: PendingInspection | None,
    ) -> Verdict:
        """Return the verdict; ``unknown`` if the agent of the host contradicts it.

        :param stored: the incident's events, oldest first.
        :param pending: as ``begin`` returned it.
        """
        if verdict.kind != VerdictKind.FAILED or pending is None:
            return verdict
        if pending.found is None:
            return _doubt(
                verdict, f"the agent on {incident.host} was not asked: too many questions"
            )
        try:
            found = pending.found.result(INSPECTION_TIMEOUT)
        except (VmmonitorError, TimeoutError) as error:
            LOG.info("Agent on host %s did not inspect an instance: %s", incident.host, error)
            if stands_without_answer(incident, stored, self._trusts_bus):
                return verdict
            message = f"the agent on {incident.host} did not confirm it, and did not report it"
            return _doubt(verdict, message)
        cause = newest_failure([each.event for each in stored]) or incident.cause
        contradiction = find_contradiction(found, cause)
        if not contradiction:
            return verdict
        doubted = _doubt(verdict, f"the agent on {incident.host} finds that {contradiction}")
        return dataclasses.replace(doubted, runs=is_working(found))


def stands_without_answer(
    incident: Incident, stored: Sequence[StoredEvent], trusts_bus: bool
) -> bool:
    """Return whether a verdict stands although the agent of the host does not answer.

    It does if the host itself reported the failure for certain, or if an engine did (nova's
    notifications, reconciliation).

    :param trusts_bus: messages are not signed, so that the host that they name is believed.
    """
    return any(
        each.event.host == incident.host
        and (trusts_bus or each.authenticated or each.event.source in ENGINE_SOURCES)
        for each in stored
    )


def is_working(found: Inspection) -> bool:
    """Return whether an instance runs and answers."""
    return found.state == states.RUNNING and found.answers is True


def find_contradiction(found: Inspection, cause: str) -> str:
    """Return why an inspection contradicts a failure; empty if it does not. Pure.

    A hung QEMU runs but does not answer, and neither does a guest that the agent itself finds
    stalled: ``answers`` is then false.

    :param cause: type and detail of the failure.
    """
    if is_working(found):
        return "it runs and answers"
    claims_stop = cause.partition("/")[0] in STOP_TYPES
    if claims_stop and found.state not in _DOWN:
        return f"it is not stopped but {found.state} ({found.reason})"
    is_stopped = found.state in (states.SHUTOFF, ABSENT_STATE)
    if found.process and (is_stopped or (claims_stop and not found.state)):
        state = f"libvirt reports {found.state}" if found.state else "libvirt does not answer"
        return f"its QEMU process exists although {state}"
    return ""


def _acts(policy: Policy | None) -> bool:
    return policy is not None and any(
        step.enabled and step.driver not in HARMLESS_DRIVERS for step in policy.steps
    )


def _doubt(verdict: Verdict, message: str) -> Verdict:
    reason = f"{verdict.reason}, but {message}"
    return dataclasses.replace(verdict, kind=VerdictKind.UNKNOWN, reason=reason)
