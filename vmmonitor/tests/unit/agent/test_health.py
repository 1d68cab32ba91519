# SPDX-License-Identifier: Apache-2.0
"""The state that the agent reports, and its reason."""

import types

import testtools

from vmmonitor import conf as configuration
from vmmonitor.agent.health import HealthAssessor, HealthState
from vmmonitor.agent.reachability import ReachabilityTracker
from vmmonitor.agent.signals import StatusChanges
from vmmonitor.model.event import Reachability
from vmmonitor.tests.unit.agent.base import MemorySpool


class HealthTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.conf = configuration.new([], files=[])
        self.conf.set_override("behind_mark", 2, "agent")
        self.reachability = ReachabilityTracker(StatusChanges())
        self.spool = MemorySpool()
        self.spool_writer = types.SimpleNamespace(trouble="")
        self.forwarder = types.SimpleNamespace(trouble="")
        self.health = HealthAssessor(
            conf=self.conf,
            reachability=self.reachability,
            spool=self.spool,
            spool_writer=self.spool_writer,
            forwarder=self.forwarder,
        )

    def report(self, source, reachable=True, reason=""):
        self.reachability.update(
            Reachability(source=source, reachable=reachable, at=1, reason=reason)
        )

    def assert_health(self, state, reason):
        self.assertEqual(HealthState(state, reason), self.health.assess())

    def test_agent_without_any_source_report_is_blind(self):
        self.assert_health("blind", "no source has connected yet")

    def test_agent_without_a_report_of_libvirt_is_blind(self):
        self.report("process")
        self.assert_health("blind", "no source has connected yet")

    def test_agent_with_reachable_libvirt_is_up(self):
        self.report("libvirt")
        self.assert_health("up", "")

    def test_agent_is_up_while_few_events_are_in_transit(self):
        self.report("libvirt")
        self.spool.put("a")
        self.assert_health("up", "")

    def test_forwarder_trouble_matters_only_while_events_wait(self):
        self.report("libvirt")
        self.forwarder.trouble = "no answer in time"
        self.assert_health("up", "")
        self.spool.put("a")
        self.assert_health("behind", "1 events are spooled: no answer in time")

    def test_agent_above_the_behind_mark_is_behind(self):
        self.report("libvirt")
        self.spool.put("a", "b", "c")
        self.assert_health("behind", "3 events are spooled: the engine accepts them slowly")

    def test_spool_trouble_precedes_the_number_of_events(self):
        self.report("libvirt")
        self.spool.put("a", "b", "c")
        self.spool_writer.trouble = "the disk is full"
        self.assert_health("behind", "the disk is full")

    def test_unreachable_libvirt_precedes_everything(self):
        self.report("libvirt", False, "refused")
        self.spool_writer.trouble = "the disk is full"
        self.assert_health("blind", "source libvirt: refused")

    def test_unreachable_additional_source_is_a_reason_but_not_a_state(self):
        self.report("libvirt")
        self.report("process", False, "hidden")
        self.assert_health("up", "source process: hidden")

    def test_unreachable_source_blinds_an_agent_without_libvirt(self):
        self.conf.set_override("sources", ["process"], "agent")
        self.report("process", False, "hidden")
        self.assert_health("blind", "source process: hidden")

    def test_growing_backlog_is_not_a_difference(self):
        behind = HealthState("behind", "3 events are spooled: slow")
        self.assertFalse(behind.differs_from(HealthState("behind", "4 events are spooled: slow")))
        self.assertTrue(behind.differs_from(HealthState("up", "")))
        self.assertTrue(behind.differs_from(None))
        self.assertTrue(HealthState("blind", "a").differs_from(HealthState("blind", "b")))
