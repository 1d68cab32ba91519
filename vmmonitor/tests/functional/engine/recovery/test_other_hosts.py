# SPDX-License-Identifier: Apache-2.0
"""Objections of other hosts and other machines to a recovery."""

from vmmonitor.db import agents
from vmmonitor.engine.recovery.other_hosts import OtherHosts
from vmmonitor.engine.recovery.verdicts import Verdicts
from vmmonitor.expectation import Expectation
from vmmonitor.model.event import RECORD
from vmmonitor.model.incident import Verdict, VerdictKind
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.samples import SECOND
from vmmonitor.tests.functional.engine.base import FAILURE, IT_FAILED, RUNS
from vmmonitor.tests.functional.engine.ingest.test_ownership import (
    ARRIVED,
    VANISHED,
    OwnershipCase,
)
from vmmonitor.tests.promises import shows


class ByEvents(Expectation):
    """Judges by events, and does not know hosts."""

    def judge(self, incident, events):
        return IT_FAILED


class ByName(ByEvents):
    """Names the host of each instance."""

    NAMES_HOST = True


class OtherHostsTest(OwnershipCase):
    def verdict(self, expectation: type[Expectation] = ByEvents) -> Verdict:
        asked = expectation(self.conf)
        verdicts = Verdicts(self.conf, asked, OtherHosts(self.database, asked))
        return verdicts.judge(self.incident(), [])

    def test_instance_that_only_its_owner_reports_is_recovered(self):
        self.monitor("compute-1", "shutoff")
        self.send(self.here(FAILURE))
        self.assertEqual(IT_FAILED.kind, self.verdict().kind)

    @shows("P11")
    def test_instance_that_was_started_elsewhere_meanwhile_is_not_recovered(self):
        """Its host's agent was stopped, and comes back with the news of the end."""
        self.monitor("compute-1")
        self.send(self.here(RUNS))
        stopped = samples.report(host="compute-1", state="stopped")
        self.database.run(agents.store_report, stopped, self.clock)
        self.monitor("compute-2")
        self.send(self.there(RUNS))
        self.monitor("compute-1", "shutoff")
        self.send(self.here(FAILURE))
        found = self.verdict()
        self.assertEqual("unknown", found.kind)
        self.assertEqual("host compute-2 reports that it runs the instance", found.reason)

    @shows("P11")
    def test_start_elsewhere_after_the_failure_stops_the_recovery(self):
        self.monitor("compute-1")
        self.send(self.here(RUNS))
        self.monitor("compute-1", "shutoff")
        self.send(self.here(FAILURE))
        self.send(self.there(RUNS))
        self.assertEqual("unknown", self.verdict().kind)

    def test_start_elsewhere_that_no_inventory_confirms_is_not_believed(self):
        self.monitor("compute-1", "shutoff")
        self.send(self.here(FAILURE))
        self.send(self.there(RUNS))
        self.later(20)
        self.assertEqual("failed", self.verdict().kind)

    @shows("P12")
    def test_claim_that_began_while_the_owner_ran_it_suppresses_nothing(self):
        self.monitor("compute-1")
        self.send(self.here(RUNS))
        self.monitor("compute-2")
        self.send(self.there(RUNS), self.there("lifecycle.resumed/unpaused"))
        self.monitor("compute-1", "shutoff")
        self.send(self.here(FAILURE))
        self.send(self.there("lifecycle.resumed/unpaused"))
        self.assertEqual("failed", self.verdict().kind)

    def test_failure_of_an_instance_that_moved_and_runs_is_planned(self):
        self.send(self.here(FAILURE))
        self.send(self.of("compute-2", "host.owner_changed", RECORD, source="engine"))
        self.monitor("compute-2")
        self.assertEqual("planned", self.verdict().kind)

    def test_expectation_that_names_hosts_decides_between_them(self):
        self.monitor("compute-1", "shutoff")
        self.send(self.here(FAILURE))
        self.monitor("compute-2")
        self.send(self.there(RUNS))
        self.assertEqual("failed", self.verdict(ByName).kind)

    def test_two_machines_with_one_name_stop_all_recoveries_of_the_host(self):
        self.send(self.here(FAILURE))
        for machine in ("m1", "m2", "m1"):
            report = samples.report(machine_id=machine, boot_id="b")
            self.database.run(agents.store_report, report, self.clock)
            self.later(5)
        for expectation in (ByEvents, ByName):
            found = self.verdict(expectation)
            self.assertEqual(VerdictKind.UNKNOWN, found.kind)
            self.assertIn("two machines report as host compute-1", found.reason)
        self.later(61)
        self.assertEqual("failed", self.verdict().kind)

    def test_reports_of_a_migration_leave_no_objection(self):
        self.monitor("compute-1")
        self.send(self.here("io_error/x"))
        self.send(self.there(ARRIVED))
        self.send(self.here("lifecycle.stopped/migrated", RECORD))
        self.assertEqual(("failed", "compute-2"), (self.verdict().kind, self.incident().host))


class VanishedTest(OwnershipCase):
    def test_instance_that_vanished_and_runs_elsewhere_has_no_incident(self):
        self.monitor("compute-1")
        self.send(self.here(RUNS))
        stopped = samples.report(host="compute-1", state="stopped")
        self.database.run(agents.store_report, stopped, self.clock)
        self.send(self.there(ARRIVED))
        self.clock += 30 * SECOND
        self.send(self.here(VANISHED))
        self.assertEqual([], self.incidents())
