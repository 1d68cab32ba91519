# SPDX-License-Identifier: Apache-2.0
"""The cause of an incident, and its host after a migration."""

from vmmonitor.model.event import RECORD
from vmmonitor.model.incident import Incident, Verdict, VerdictKind
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.samples import NOON, SECOND
from vmmonitor.tests.functional.engine import base
from vmmonitor.tests.functional.engine.base import FAILURE, RUNS, delivery, policy

ENDED = "process.exited"
ARRIVED = "lifecycle.resumed/migrated"
LEAVES = "lifecycle.suspended/migrated"
UNKNOWABLE = Verdict(kind=VerdictKind.UNKNOWN, reason="nova is away")


def some(incident: Incident, name: str = "policy") -> tuple:
    return incident.state, incident.policy, getattr(incident, name)


def hold(incident: Incident) -> tuple[str, int]:
    return incident.cause, incident.hold_until


class CauseTest(base.EngineCase):
    """The end of the process is reported before or after its cause."""

    def setUp(self):
        super().setUp()
        self.policies = self.load(
            policy("ended", {"type": "process.exited"}, hold=10),
            policy("died", {"type": "lifecycle.stopped", "detail": "failed"}, hold=0),
            policy("stopped", {"type": "lifecycle.stopped"}, hold=5),
            policy("watchdog", {"type": "watchdog"}, hold=10),
        )
        self.store(delivery(ENDED))

    def test_event_without_cause_waits_for_its_hold(self):
        incident = self.incident()
        self.assertEqual(("pending", "ended", ENDED), some(incident, "cause"))
        self.assertEqual(NOON + 10 * SECOND, incident.hold_until)

    def test_failure_after_event_without_cause_sets_cause_and_is_due(self):
        self.later(0.2)
        self.store(delivery())
        incident = self.incident()
        self.assertEqual(("pending", "died", FAILURE), some(incident, "cause"))
        self.assertEqual((self.clock, 2), (incident.hold_until, incident.event_count))
        self.assertIn(
            ("decision", f"the cause is {FAILURE}: rule died, action incident"), self.line()
        )
        self.assertIsNotNone(self.decide())
        self.assertEqual(1, len(self.incidents()))

    def test_enqueued_incident_counts_all_events_of_the_batch(self):
        """Otherwise the expectation would be queried twice."""
        for sent in ([delivery()], [delivery("reboot/info"), delivery()]):
            queue = base.FakeRecoveryQueue()
            ingest = self.ingest(recovery_queue=queue)
            ingest.store(base.batch(*sent), 10)
            ingest.stop(10)
            self.assertEqual(
                [self.incident().event_count], [one.event_count for one in queue.incidents]
            )
            self.store(delivery(RUNS), delivery(ENDED))

    def test_cause_in_same_batch_leaves_earlier_incident_alone(self):
        self.store(delivery(RUNS), delivery(ENDED), delivery())
        self.assertEqual([ENDED, FAILURE], [one.cause for one in self.incidents()])

    def test_planned_stop_as_cause_is_due(self):
        self.store(delivery("lifecycle.stopped/destroyed"))
        self.assertEqual(NOON, self.incident().hold_until)
        self.assertIsNone(self.decide(Verdict(kind=VerdictKind.PLANNED, reason="destroyed")))
        incident = self.incident()
        cause = "lifecycle.stopped/destroyed"
        self.assertEqual(("ignored", "stopped", cause), some(incident, "cause"))

    def test_cause_with_policy_hold_sets_that_hold(self):
        self.later(1)
        self.store(delivery("lifecycle.stopped/vanished"))
        self.assertEqual(NOON + 6 * SECOND, self.incident().hold_until)

    def test_watchdog_event_before_stop_is_the_cause(self):
        """QEMU reports the action of its watchdog; the event of the process can overtake it."""
        self.store(delivery("watchdog/poweroff"))
        self.assertEqual("watchdog/poweroff", self.incident().cause)
        self.store(delivery())
        incident = self.incident()
        self.assertEqual(("pending", "died", "watchdog/poweroff"), some(incident, "cause"))
        self.assertEqual(self.clock, incident.hold_until)

    def test_second_cause_does_not_replace_first(self):
        self.store(delivery("lifecycle.crashed/panicked"), delivery())
        self.assertEqual("lifecycle.crashed/panicked", self.incident().cause)

    def test_unrelated_event_does_not_set_cause(self):
        self.store(delivery("reboot/info", action=RECORD), delivery("job_completed/info"))
        self.assertEqual((ENDED, NOON + 10 * SECOND), hold(self.incident()))

    def test_event_of_other_host_does_not_set_cause(self):
        self.store(delivery(host="compute-2"))
        self.assertEqual(ENDED, self.incident().cause)

    def test_cause_after_unknown_verdict_makes_incident_due(self):
        self.later(60)
        self.assertIsNone(self.decide(UNKNOWABLE))
        self.assertEqual("held", self.incident().state)
        self.later(300)
        self.store(delivery())
        self.assertEqual((FAILURE, self.clock), hold(self.incident()))
        self.assertIsNotNone(self.decide())

    def test_cause_during_recovery_is_not_set(self):
        self.later(10)
        claim = self.decide()
        self.store(delivery())
        self.assertEqual(("recovering", ENDED), (self.incident().state, self.incident().cause))
        self.finish(claim)
        self.store(delivery(RUNS))
        self.assertEqual("resolved", self.incident().state)


class MigrationTest(base.EngineCase):
    """An open incident follows the migration of its instance."""

    def test_migration_moves_open_incident_to_destination(self):
        self.policies = self.load(policy(hold=10))
        self.store(delivery("memory_failure/x"))
        self.store(delivery("lifecycle.started/migrated", RECORD, host="compute-2"))
        self.store(delivery(LEAVES, RECORD, occurred_at=NOON + 1))
        self.store(delivery(ARRIVED, RECORD, host="compute-2", occurred_at=NOON + 1))
        incident = self.incident()
        self.assertEqual(("pending", "compute-2"), (incident.state, incident.host))
        message = "the instance moved from host compute-1 to host compute-2"
        self.assertIn(("decision", message), self.line())
        self.later(10)
        self.assertEqual("compute-2", self.decide().recovery.host)

    def test_migration_of_stopped_instance_resolves_incident(self):
        for cause in (ENDED, FAILURE):
            uuid = samples.new_id()
            self.store(delivery(cause, uuid=uuid))
            self.store(delivery(LEAVES, RECORD, uuid=uuid))
            arrival = {"host": "compute-2", "occurred_at": NOON + 1}
            self.store(delivery(ARRIVED, RECORD, uuid=uuid, **arrival))
            (incident,) = [one for one in self.incidents() if one.instance.uuid == uuid]
            self.assertEqual(("resolved", "compute-2"), (incident.state, incident.host))

    def test_late_event_of_earlier_migration_does_not_move_incident(self):
        self.policies = self.load(policy(hold=10))
        self.store(delivery("memory_failure/x"))
        self.store(delivery(ARRIVED, host="compute-2", occurred_at=NOON - SECOND))
        self.assertEqual("compute-1", self.incident().host)
