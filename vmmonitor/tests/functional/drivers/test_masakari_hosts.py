# SPDX-License-Identifier: Apache-2.0
"""Test that the masakari driver does not cause a second copy of a guest."""

from vmmonitor.model.errors import Retriable
from vmmonitor.testing.agents import LOST, FakeAgents
from vmmonitor.tests.functional.drivers.test_masakari import MasakariTest
from vmmonitor.tests.promises import shows


@shows("P11")
class TestLostProcess(MasakariTest):
    """masakari has nova start the server, beside a process that libvirt has lost."""

    def test_nothing_is_posted_about_a_process_that_libvirt_has_lost(self):
        self.driver.agents = FakeAgents(inspection=LOST)
        self.assertFails(self.recover(), "libvirt does not manage it", retry=True)
        self.assertEqual([], self.masakari.requests("POST"))

    def test_nothing_is_posted_if_the_agent_does_not_answer(self):
        self.driver.agents = FakeAgents(inspection=Retriable("no answer"))
        self.assertFails(self.recover(), "the agent on compute-1 did not report", retry=True)
        self.assertEqual([], self.masakari.requests("POST"))
