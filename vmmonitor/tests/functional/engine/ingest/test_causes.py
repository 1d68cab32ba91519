# SPDX-License-Identifier: Apache-2.0
"""How an incident gets its cause, and goes where its instance goes."""

from vmmonitor.model.event import RECORD
from vmmonitor.model.incident import Incident, Verdict, VerdictKind
from vmmonitor.tests.functional.db.samples import NOON, SECOND
from vmmonitor.tests.functional.engine import base
from vmmonitor.tests.functional.engine.base import FAILURE, RUNS, delivery, policy

ENDED = "process.exited"
ARRIVED = "lifecycle.resumed/migrated"
UNKNOWABLE = Verdict(kind=VerdictKind.UNKNOWN, reason="nova is away")


def some(incident: Incident, name: str = "policy") -> tuple:
    return incident.state, incident.policy, getattr(incident, name)


def hold(incident: Incident) -> tuple[str, int]:
    return incident.cause, incident.hold_until


class CauseTest(base.EngineCase):
    """The process ended: why comes later, or came before."""

    def setUp(self):
        super().setUp()
        self.policies = self.load(
            policy("ended", {"type": "process.exited"}, hold=10),
            policy("died", {"type": "lifecycle.stopped", "detail": "failed"}, hold=0),
            policy("stopped", {"type": "lifecycle.stopped"}, hold=5),
            policy("watchdog", {"type": "watchdog"}, hold=10),
        )
        self.store(delivery(ENDED))

    def test_the_bare_fact_waits(self):
        incident = self.incident()
        self.assertEqual(("pending", "ended", ENDED), some(incident, "cause"))
        self.assertEqual(NOON + 10 * SECOND, incident.hold_until)

    def test_a_failure_is_its_cause_and_acted_on_at_once(self):
        self.later(0.2)
        self.store(delivery())
        incident = self.incident()
        self.assertEqual(("pending", "died", FAILURE), some(incident, "cause"))
        self.assertEqual((self.clock, 2), (incident.hold_until, incident.event_count))
        self.assertIn(
            ("decision", f"the cause is {FAILURE}: rule died says incident"), self.line()
        )
        self.assertIsNotNone(self.decide())
        self.assertEqual(1, len(self.incidents()))

    def test_who_judges_it_knows_of_all_its_events(self):
        """Or the expectation would be asked twice."""
        for sent in ([delivery()], [delivery("reboot/info"), delivery()]):
            queue = base.FakeRecoveryQueue()
            ingest = self.ingest(recovery_queue=queue)
            ingest.store(base.batch(*sent), 10)
            ingest.stop(10)
            self.assertEqual(
                [self.incident().event_count], [one.event_count for one in queue.incidents]
            )
            self.store(delivery(RUNS), delivery(ENDED))

    def test_both_in_one_batch(self):
        self.store(delivery(RUNS), delivery(ENDED), delivery())
        self.assertEqual([ENDED, FAILURE], [one.cause for one in self.incidents()])

    def test_a_planned_stop_is_judged_at_once(self):
        self.store(delivery("lifecycle.stopped/destroyed"))
        self.assertEqual(NOON, self.incident().hold_until)
        self.assertIsNone(self.decide(Verdict(kind=VerdictKind.PLANNED, reason="destroyed")))
        incident = self.incident()
        cause = "lifecycle.stopped/destroyed"
        self.assertEqual(("ignored", "stopped", cause), some(incident, "cause"))

    def test_a_cause_that_has_a_hold_of_its_own_gets_it(self):
        self.later(1)
        self.store(delivery("lifecycle.stopped/vanished"))
        self.assertEqual(NOON + 6 * SECOND, self.incident().hold_until)

    def test_what_brought_it_down_is_its_cause(self):
        """QEMU's watchdog tells that it acts, and the kernel is quicker with what came of it."""
        self.store(delivery("watchdog/poweroff"))
        self.assertEqual("watchdog/poweroff", self.incident().cause)
        self.store(delivery())
        incident = self.incident()
        self.assertEqual(("pending", "died", "watchdog/poweroff"), some(incident, "cause"))
        self.assertEqual(self.clock, incident.hold_until)

    def test_the_first_cause_stays(self):
        self.store(delivery("lifecycle.crashed/panicked"), delivery())
        self.assertEqual("lifecycle.crashed/panicked", self.incident().cause)

    def test_what_tells_nothing_of_the_end_leaves_it(self):
        self.store(delivery("reboot/info", action=RECORD), delivery("job_completed/info"))
        self.assertEqual((ENDED, NOON + 10 * SECOND), hold(self.incident()))

    def test_another_host_does_not_know_the_cause(self):
        self.store(delivery(host="compute-2"))
        self.assertEqual(ENDED, self.incident().cause)

    def test_nobody_knows_until_libvirt_is_back(self):
        self.later(60)
        self.assertIsNone(self.decide(UNKNOWABLE))
        self.assertEqual("held", self.incident().state)
        self.later(300)
        self.store(delivery())
        self.assertEqual((FAILURE, self.clock), hold(self.incident()))
        self.assertIsNotNone(self.decide())

    def test_while_it_is_recovered_the_cause_changes_nothing(self):
        self.later(10)
        claim = self.decide()
        self.store(delivery())
        self.assertEqual(("recovering", ENDED), (self.incident().state, self.incident().cause))
        self.finish(claim)
        self.store(delivery(RUNS))
        self.assertEqual("resolved", self.incident().state)


class MigrationTest(base.EngineCase):
    """An open incident goes where its instance goes."""

    def test_it_moves_and_stays_open(self):
        self.policies = self.load(policy(hold=10))
        self.store(delivery("memory_failure/x"))
        self.store(
            delivery("lifecycle.started/migrated", host="compute-2"),
            delivery(ARRIVED, host="compute-2", occurred_at=NOON + 1),
        )
        incident = self.incident()
        self.assertEqual(("pending", "compute-2"), (incident.state, incident.host))
        message = "it was migrated from host compute-1 to host compute-2"
        self.assertIn(("decision", message), self.line())
        self.later(10)
        self.assertEqual("compute-2", self.decide().recovery.host)

    def test_one_taken_for_stopped_runs_where_it_arrived(self):
        for cause in (ENDED, FAILURE):
            self.store(delivery(cause))
            self.store(delivery(ARRIVED, host="compute-2", occurred_at=NOON + 1))
            self.assertEqual("resolved", self.incident().state)
            self.assertEqual("compute-2", self.incident().host)

    def test_a_late_word_from_where_it_once_arrived_does_not_move_it(self):
        self.policies = self.load(policy(hold=10))
        self.store(delivery("memory_failure/x"))
        self.store(delivery(ARRIVED, host="compute-2", occurred_at=NOON - SECOND))
        self.assertEqual("compute-1", self.incident().host)
