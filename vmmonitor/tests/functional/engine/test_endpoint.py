# SPDX-License-Identifier: Apache-2.0
"""Answers of an engine to the agents' question whether a recovery is still current."""

from typing import Any

from vmmonitor.db import incidents, recoveries
from vmmonitor.engine.endpoint import AgentCallEndpoint
from vmmonitor.model.states import IncidentState, RecoveryState
from vmmonitor.rpc import fields
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.samples import NOON, SECOND
from vmmonitor.tests.functional.engine import base
from vmmonitor.tests.promises import shows

#: Token of the recovery.
TOKEN = 7


class CheckRecoveryTest(base.EngineCase):
    def setUp(self) -> None:
        super().setUp()
        self.endpoint = AgentCallEndpoint(self.database, self.ingest(), 5.0)

    def running(self, incident_changes: Any = (), **changes: Any) -> dict[str, Any]:
        """Store a running recovery; return the question of its agent."""
        incident = samples.incident(
            **{"state": IncidentState.RECOVERING, **dict(incident_changes)}
        )
        recovery = samples.recovery(
            **{
                "incident_id": incident.incident_id,
                "instance_uuid": incident.instance.uuid,
                "host": incident.host,
                "state": RecoveryState.RUNNING,
                "lease_owner": "engine-1",
                "lease_until": NOON + 30 * SECOND,
                "called_at": NOON,
                "token": TOKEN,
                **changes,
            }
        )
        self.database.run(incidents.insert, [incident])
        self.database.run(recoveries.insert, recovery)
        self.recovery = recovery
        return {
            "schema": fields.SCHEMA,
            "host": incident.host,
            "instance_uuid": incident.instance.uuid,
            "recovery_id": recovery.recovery_id,
            "token": TOKEN,
        }

    def is_current(self, question: dict[str, Any]) -> bool:
        answer = self.endpoint.check_recovery({}, question)
        self.assertEqual(self.clock, answer["engine_time"])
        return answer["current"]

    def test_running_recovery_is_current(self):
        self.assertTrue(self.is_current(self.running()))

    @shows("P12")
    def test_recovery_that_no_engine_has_claimed_is_not_current(self):
        question = self.running()
        for forged in (
            {"recovery_id": samples.new_id()},
            {"instance_uuid": samples.new_id()},
            {"host": "another-host"},
            {"token": TOKEN - 1},
            {"token": TOKEN + 1},
        ):
            self.assertFalse(self.is_current(question | forged), forged)

    def test_recovery_without_a_valid_lease_is_not_current(self):
        question = self.running()
        self.clock = NOON + 30 * SECOND
        self.assertFalse(self.is_current(question))

    def test_recovery_that_has_ended_is_not_current(self):
        question = self.running()
        self.database.run(recoveries.transition, self.recovery, "fail", now=NOON)
        self.assertFalse(self.is_current(question))

    def test_recovery_that_was_not_started_is_not_current(self):
        self.assertFalse(self.is_current(self.running(state=RecoveryState.REQUESTED)))

    def test_recovery_of_a_closed_incident_is_not_current(self):
        for state in (IncidentState.RESOLVED, IncidentState.UNRECOVERED, IncidentState.IGNORED):
            self.assertFalse(self.is_current(self.running({"state": state})), state)
