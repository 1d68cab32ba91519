# SPDX-License-Identifier: Apache-2.0
"""Claims: the right of one engine to call the driver of one recovery, with lease and fence token.

Each function runs in a transaction that holds the lock of the incident's row.
"""

import dataclasses
import uuid

from oslo_config import cfg

from vmmonitor.db import fences, recoveries
from vmmonitor.db.session import Transaction
from vmmonitor.engine.incidents import timeline
from vmmonitor.engine.incidents.transitions import move_recovery
from vmmonitor.model.clock import SECOND
from vmmonitor.model.incident import Incident
from vmmonitor.model.recovery import Recovery
from vmmonitor.model.states import RecoveryState, RecoveryTransition
from vmmonitor.rules.policies import Policy, PolicyStep

TAKEN_OVER = "taken over: the lease of its engine has expired"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A recovery that this engine has claimed, and the input of its driver.

    :param step: the step of the policy that it belongs to.
    :param dry_run: the setting that makes it a dry run; empty without one.
    """

    recovery: Recovery
    incident: Incident
    step: PolicyStep
    taken_over: bool = False
    dry_run: str = ""


class Claims:
    """Requests and claims recoveries for one engine process."""

    def __init__(self, conf: cfg.ConfigOpts):
        """Choose the name of this process as an owner of leases."""
        self._conf = conf
        # The claims of one process differ in their tokens: a driver that returns after its
        # recovery was taken over, even by the same process, does not find its lease valid.
        self.owner = str(uuid.uuid4())

    def request(
        self,
        tx: Transaction,
        incident: Incident,
        policy: Policy,
        index: int,
        now: int,
        *,
        attempt: int = 1,
        failure_number: int = 1,
        not_before: int | None = None,
    ) -> Recovery:
        """Store a requested recovery.

        :param index: of the policy's step, from 0.
        :param not_before: its earliest start; None for ``now``.
        """
        recovery = Recovery(
            recovery_id=str(uuid.uuid4()),
            incident_id=incident.incident_id,
            instance_uuid=incident.instance.uuid,
            host=incident.host,
            policy=policy.name,
            driver=policy.steps[index].driver,
            step=index,
            attempt=attempt,
            failure_number=failure_number,
            state=RecoveryState.REQUESTED,
            not_before=now if not_before is None else not_before,
            created_at=now,
        )
        recoveries.insert(tx, recovery)
        return recovery

    def claim(
        self, tx: Transaction, incident: Incident, recovery: Recovery, policy: Policy, now: int
    ) -> Claim:
        """Claim a requested recovery, or take over a running one whose lease has expired.

        :raises vmmonitor.model.errors.Conflict: another engine was first.
        """
        taken_over = recovery.state == RecoveryState.RUNNING
        claimed = move_recovery(
            tx,
            recovery,
            RecoveryTransition.TAKE_OVER if taken_over else RecoveryTransition.CLAIM,
            TAKEN_OVER if taken_over else "calling the driver",
            now,
            timeline.call_data(policy, recovery),
            token=fences.advance(tx, recovery.instance_uuid, now),
            takeovers=recovery.takeovers + taken_over,
            lease_owner=self.owner,
            lease_until=now + round(self._conf.recovery.lease * SECOND),
            called_at=now,
            returned_at=None,
        )
        step = policy.steps[recovery.step]
        return Claim(
            recovery=claimed,
            incident=incident,
            step=step,
            taken_over=taken_over,
            dry_run=self._dry_run(policy, step),
        )

    def take_over_to_end(self, tx: Transaction, recovery: Recovery, now: int) -> Recovery:
        """Take a recovery from an engine whose lease has expired, without calling its driver.

        :raises vmmonitor.model.errors.Conflict: another engine was first, or renewed its lease.
        """
        return move_recovery(
            tx,
            recovery,
            RecoveryTransition.TAKE_OVER,
            TAKEN_OVER,
            now,
            token=fences.advance(tx, recovery.instance_uuid, now),
            takeovers=recovery.takeovers + 1,
            lease_owner=self.owner,
        )

    def _dry_run(self, policy: Policy, step: PolicyStep) -> str:
        """Return the setting that makes a call a dry run; empty without one."""
        if self._conf.recovery.dry_run:
            return "[recovery] dry_run"
        if policy.dry_run:
            return f"policy {policy.name}"
        return f"the step of policy {policy.name}" if step.dry_run else ""
