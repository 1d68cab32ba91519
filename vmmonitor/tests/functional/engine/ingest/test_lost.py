# SPDX-License-Identifier: Apache-2.0
"""Reconciliation without nova, by the instances that ran before."""

import dataclasses

from vmmonitor.expectation.libvirt import LibvirtExpectation
from vmmonitor.model.event import RECORD
from vmmonitor.model.instance import Instance, Seen
from vmmonitor.model.states import AgentState
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.engine.base import delivery
from vmmonitor.tests.functional.engine.reconcile import test_reconciler
from vmmonitor.tests.functional.engine.reconcile.test_reconciler import RUNNING


class LostInstanceTest(test_reconciler.ReconcileCase):
    """An instance that ran before should run, until an event reports its end."""

    def setUp(self) -> None:
        super().setUp()
        self.engine = self.reconciliation(expectation=LibvirtExpectation(self.conf))
        self.host("a", RUNNING)
        self.round()

    def test_instance_missing_without_event_is_reported(self):
        self.host("a")
        self.round()
        self.assertEqual(["reconcile.missing"], self.round())
        self.host("a", RUNNING)
        self.assertEqual("reconcile.agrees/missing", self.round()[-1])

    def test_instance_failed_without_event_is_reported(self):
        self.host("a", dataclasses.replace(RUNNING, state="shutoff", reason="failed"))
        self.round()
        self.assertEqual(["reconcile.not_running/failed"], self.round())

    def test_instance_stopped_with_event_or_on_purpose_is_not_reported(self):
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

    def test_stop_before_last_start_does_not_explain_loss(self):
        for seconds, cause in enumerate(["lifecycle.stopped/failed", "lifecycle.started/booted"]):
            at = self.clock + seconds
            self.store(delivery(cause, RECORD, host="a", occurred_at=at))
        self.host("a")
        self.round()
        self.assertEqual(["reconcile.missing"], self.round())

    def test_late_event_explains_loss(self):
        self.host("a", state=AgentState.UP, spool_depth=3)
        self.assertEqual([], self.round() + self.round())
        self.store(delivery("lifecycle.stopped/destroyed", RECORD, host="a"))
        self.host("a")
        self.assertEqual([], self.round() + self.round())

    def test_spooled_events_do_not_end_reported_drift(self):
        self.host("a")
        self.round()
        self.round()
        self.host("a", spool_depth=3)
        self.assertEqual(["reconcile.missing"], self.round())

    def test_migrated_instance_is_not_missing_on_source(self):
        self.host("b", RUNNING)
        self.host("a")
        self.assertEqual([], self.round() + self.round())
        self.host("b", RUNNING, state=AgentState.BLIND)
        self.assertEqual([], self.round() + self.round())

    def test_autostart_instance_that_failed_is_reported(self):
        other = Instance(uuid=samples.new_id(), name="db")
        failed = Seen(instance=other, state="shutoff", reason="failed", autostart=True)
        self.host("a", RUNNING, failed)
        self.round()
        self.assertEqual(["reconcile.not_running/failed"], self.round())
