# SPDX-License-Identifier: Apache-2.0
"""Reconciliation without nova: by what ran before."""

import dataclasses

from vmmonitor.expectation.libvirt import LibvirtExpectation
from vmmonitor.model.event import RECORD
from vmmonitor.model.instance import Instance, Seen
from vmmonitor.model.states import AgentState
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.engine.base import delivery
from vmmonitor.tests.functional.engine.reconcile import test_reconciler
from vmmonitor.tests.functional.engine.reconcile.test_reconciler import RUNNING


class WithoutNovaTest(test_reconciler.ReconcileCase):
    """What ran before is expected to run, until an event tells why it does not."""

    def setUp(self) -> None:
        super().setUp()
        self.engine = self.reconciliation(expectation=LibvirtExpectation(self.conf))
        self.host("a", RUNNING)
        self.round()

    def test_what_is_gone_without_a_word(self):
        self.host("a")
        self.round()
        self.assertEqual(["reconcile.missing"], self.round())
        self.host("a", RUNNING)
        self.assertEqual("reconcile.agrees/missing", self.round()[-1])

    def test_what_failed_without_an_event(self):
        self.host("a", dataclasses.replace(RUNNING, state="shutoff", reason="failed"))
        self.round()
        self.assertEqual(["reconcile.not_running/failed"], self.round())

    def test_what_an_event_told_of_or_somebody_wanted_is_nothing(self):
        for number, (cause, reason) in enumerate(
            [("lifecycle.stopped/failed", "failed"), ("", "destroyed")]
            + [("lifecycle.stopped/vanished", "vanished"), ("process.exited", "unknown")]
        ):
            if cause:
                self.store(delivery(cause, RECORD, host="a", occurred_at=self.clock + number))
            self.host("a", dataclasses.replace(RUNNING, state="shutoff", reason=reason))
            self.assertEqual([], self.round() + self.round(), cause)
            self.host("a", RUNNING)
            self.round()
            self.later(60)
            runs = "lifecycle.started/booted"
            self.store(delivery(runs, host="a", occurred_at=self.clock))

    def test_a_stop_of_an_earlier_life_explains_nothing(self):
        for seconds, cause in enumerate(["lifecycle.stopped/failed", "lifecycle.started/booted"]):
            at = self.clock + seconds
            self.store(delivery(cause, RECORD, host="a", occurred_at=at))
        self.host("a")
        self.round()
        self.assertEqual(["reconcile.missing"], self.round())

    def test_an_event_that_comes_late_explains_it(self):
        self.host("a", state=AgentState.UP, spool_depth=3)
        self.assertEqual([], self.round() + self.round())
        self.store(delivery("lifecycle.stopped/destroyed", RECORD, host="a"))
        self.host("a")
        self.assertEqual([], self.round() + self.round())

    def test_events_that_wait_on_the_host_end_nothing_that_was_told(self):
        self.host("a")
        self.round()
        self.round()
        self.host("a", spool_depth=3)
        self.assertEqual(["reconcile.missing"], self.round())

    def test_what_moved_is_not_missed_where_it_was(self):
        self.host("b", RUNNING)
        self.host("a")
        self.assertEqual([], self.round() + self.round())
        self.host("b", RUNNING, state=AgentState.BLIND)
        self.assertEqual([], self.round() + self.round())

    def test_what_its_host_should_have_started(self):
        other = Instance(uuid=samples.new_id(), name="db")
        failed = Seen(instance=other, state="shutoff", reason="failed", autostart=True)
        self.host("a", RUNNING, failed)
        self.round()
        self.assertEqual(["reconcile.not_running/failed"], self.round())
