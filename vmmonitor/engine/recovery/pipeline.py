# SPDX-License-Identifier: Apache-2.0
"""The stages from a due incident or recovery to the call of a driver.

Each call of a driver passes them in this order: a first attempt, a retry, a further step, a
takeover, an attempt that got a slot, and one that an operator requested.
"""

import dataclasses
import time
from collections.abc import Sequence

from vmmonitor.db import events, incidents, recoveries, reviews
from vmmonitor.db.session import Database, Transaction
from vmmonitor.engine.recovery.attempts import Attempts
from vmmonitor.engine.recovery.claims import Claim
from vmmonitor.engine.recovery.confirmation import Confirmation
from vmmonitor.engine.recovery.decisions import DECIDE_AFTER, Decisions, Outdated
from vmmonitor.engine.recovery.driver_calls import DriverCalls
from vmmonitor.engine.recovery.leases import boot_time
from vmmonitor.engine.recovery.next_attempts import NextAttempts
from vmmonitor.engine.recovery.own_effects import exclude_own_effects
from vmmonitor.engine.recovery.verdicts import Verdicts
from vmmonitor.expectation import operations
from vmmonitor.model.clock import SECOND
from vmmonitor.model.event import NOVA_SOURCE, Event, StoredEvent
from vmmonitor.model.incident import Incident, Verdict
from vmmonitor.model.recovery import Recovery
from vmmonitor.model.states import RecoveryState

#: Maximum time, in seconds, from a verdict to the commit of the claim that is based on it.
MAX_VERDICT_AGE = 5.0


class VerdictTooOld(Exception):
    """The claim waited for so long that the verdict must be requested again"""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LoadedEvents:
    """The basis of a verdict.

    :param incident: as it was when its events were loaded.
    :param stored: events of the incident, oldest first.
    :param judged: those that the verdict is about: also nova's operations on the instance before
        them, and without the effects of the incident's own recoveries.
    :param earlier: recoveries of the incident, oldest first.
    """

    incident: Incident
    stored: Sequence[StoredEvent]
    judged: Sequence[Event]
    earlier: Sequence[Recovery]

    @property
    def reported(self) -> list[Event]:
        """The events of the incident, oldest first."""
        return [each.event for each in self.stored]


class RecoveryPipeline:
    """Takes one incident or recovery through its stages, in the thread of the caller."""

    def __init__(
        self,
        database: Database,
        verdicts: Verdicts,
        confirmation: Confirmation,
        decisions: Decisions,
        next_attempts: NextAttempts,
        attempts: Attempts,
        calls: DriverCalls,
    ):
        """Use these parts, one for each stage."""
        self._database = database
        self._verdicts = verdicts
        self._confirmation = confirmation
        self._decisions = decisions
        self._next_attempts = next_attempts
        self._attempts = attempts
        self._calls = calls

    def examine(self, incident: Incident) -> bool:
        """Judge an incident whose hold is over, and act on the verdict.

        :returns: whether something else may be due now.
        """
        return self._run_stages(incident, None)

    def resume(self, recovery: Recovery) -> bool:
        """Call the driver of a due recovery, or end the recovery.

        :returns: whether something else may be due now.
        """
        if recovery.state == RecoveryState.WAITING:
            is_active = recovery.look_at is not None and self._verdicts.is_active(recovery)
            self._database.run(self._attempts.end_wait, recovery, is_active)
        elif not self._calls.store_pending_outcome(recovery):
            self._run_stages(None, recovery)
        return True

    def review(self, incident: Incident, judged_before: int) -> bool:
        """Judge an unhandled incident again, and close or release it if its state has changed.

        :param judged_before: when its last verdict is too old; microseconds since the epoch.
        :returns: whether it is due now.
        """
        now, incident_id = self._database.now(), incident.incident_id
        if not self._database.run(reviews.begin_review, incident_id, judged_before, now):
            return False
        loaded = self._load_events(incident, None)
        verdict = self._verdicts.judge(loaded.incident, loaded.judged)
        return self._database.run(self._decisions.review, loaded.incident, verdict)

    def _run_stages(self, incident: Incident | None, recovery: Recovery | None) -> bool:
        """Take an incident that is due, or a recovery that is due, to the call of a driver."""
        started = time.monotonic()
        while True:
            loaded = self._load_events(incident, recovery)
            verdict = self._judge(loaded, recovery)
            judged_at = boot_time()
            is_overdue = time.monotonic() - started > DECIDE_AFTER
            try:
                claim = self._try_to_claim(recovery, loaded, verdict, judged_at, is_overdue)
            except VerdictTooOld:
                continue
            if not isinstance(claim, Outdated):
                break
            incident = claim.incident
        if claim is None:
            return False
        self._calls.call(claim, loaded.reported, judged_at)
        return True

    def _judge(self, loaded: LoadedEvents, recovery: Recovery | None) -> Verdict:
        """Return the verdict, which the agent of the host confirms at the same time."""
        name = recovery.policy if recovery else loaded.incident.policy
        policy = self._attempts.policies.get(name)
        pending = self._confirmation.begin(loaded.incident, policy)
        verdict = self._verdicts.judge(loaded.incident, loaded.judged)
        return self._confirmation.confirm(verdict, loaded.incident, loaded.stored, pending)

    def _load_events(self, incident: Incident | None, recovery: Recovery | None) -> LoadedEvents:
        with self._database.reader() as tx:
            if recovery:
                incident = incidents.get(tx, recovery.incident_id)
            assert incident is not None
            reported = events.of_incident(tx, incident.incident_id)
            since = incident.opened_at - operations.MAX_SILENCE * SECOND
            before = events.of_instance(tx, incident, NOVA_SOURCE, since)
            earlier = recoveries.of_incident(tx, incident.incident_id)
        now = self._database.now()
        return LoadedEvents(
            incident=incident,
            stored=reported,
            judged=exclude_own_effects([*before, *reported], earlier, now),
            earlier=earlier,
        )

    def _try_to_claim(
        self,
        recovery: Recovery | None,
        loaded: LoadedEvents,
        verdict: Verdict,
        judged_at: float,
        is_overdue: bool,
    ) -> Claim | Outdated | None:
        """Run ``_claim`` in a transaction, which is repeated after temporary errors.

        That of a takeover is not: if the database was away, the owner of the recovery, which
        repeats its own transaction, must be able to store the outcome first.
        """
        if recovery is None or recovery.state != RecoveryState.RUNNING:
            return self._database.run(
                self._claim, recovery, loaded, verdict, judged_at, is_overdue
            )
        with self._database.writer() as tx:
            return self._claim(tx, recovery, loaded, verdict, judged_at, is_overdue)

    def _claim(
        self,
        tx: Transaction,
        recovery: Recovery | None,
        loaded: LoadedEvents,
        verdict: Verdict,
        judged_at: float,
        is_overdue: bool,
    ) -> Claim | Outdated | None:
        """Decide, check admission and claim, in one transaction.

        :raises VerdictTooOld: the transaction waited for too long; nothing is changed.
        """
        if recovery is None:
            claim = self._decisions.decide(tx, loaded.incident, verdict, loaded.earlier)
        else:
            claim = self._next_attempts.decide(tx, recovery, loaded.incident, verdict, is_overdue)
        if isinstance(claim, Claim) and boot_time() - judged_at > MAX_VERDICT_AGE:
            raise VerdictTooOld
        return claim
