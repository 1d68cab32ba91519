# SPDX-License-Identifier: Apache-2.0
"""The stages from a due incident or recovery to the call of a driver."""

import time

from vmmonitor.db import events
from vmmonitor.db.session import Database
from vmmonitor.engine.recovery.attempts import Attempts
from vmmonitor.engine.recovery.decisions import Decisions, Outdated
from vmmonitor.engine.recovery.driver_calls import DriverCalls
from vmmonitor.engine.recovery.verdicts import Verdicts
from vmmonitor.expectation import operations
from vmmonitor.model.clock import SECOND
from vmmonitor.model.event import Event
from vmmonitor.model.incident import Incident
from vmmonitor.model.recovery import Recovery


class RecoveryPipeline:
    """Takes one incident or recovery through its stages, in the thread of the caller."""

    def __init__(
        self,
        database: Database,
        verdicts: Verdicts,
        decisions: Decisions,
        attempts: Attempts,
        calls: DriverCalls,
    ):
        """Use these parts, one for each stage."""
        self._database = database
        self._verdicts = verdicts
        self._decisions = decisions
        self._attempts = attempts
        self._calls = calls

    def examine(self, incident: Incident) -> bool:
        """Judge an incident whose hold is over, and act on the verdict.

        :returns: whether something else may be due now.
        """
        while True:
            reported, operations_before = self._load_events(incident)
            verdict = self._verdicts.judge(incident, [*operations_before, *reported])
            before_claim = time.monotonic()
            decision = self._database.run(self._decisions.decide, incident, verdict)
            if not isinstance(decision, Outdated):
                break
            incident = decision.incident
        if decision is None:
            return False
        self._calls.call(decision, reported, before_claim)
        return True

    def resume(self, recovery: Recovery) -> bool:
        """Claim a due recovery and call its driver, or end it.

        :returns: whether something else may be due now.
        """
        # Load the events before claiming: no statement may fail between the claim and the call.
        with self._database.reader() as tx:
            reported = [each.event for each in events.of_incident(tx, recovery.incident_id)]
        is_active = recovery.look_at is not None and self._verdicts.is_active(recovery)
        before_claim = time.monotonic()
        claim = self._database.run(self._attempts.claim_or_finish, recovery, is_active)
        if claim:
            self._calls.call(claim, reported, before_claim)
        return True

    def _load_events(self, incident: Incident) -> tuple[list[Event], list[Event]]:
        """Return the incident's events, and nova's operations on its instance before them."""
        since = incident.opened_at - operations.MAX_SILENCE * SECOND
        with self._database.reader() as tx:
            reported = events.of_incident(tx, incident.incident_id)
            before = events.of_instance(tx, incident, operations.NOVA_PREFIX, since)
        return [each.event for each in reported], [each.event for each in before]
