# SPDX-License-Identifier: Apache-2.0
"""Test ``incident explain`` and ``policy replay`` with a real crash and its recovery."""

import re
import subprocess
import sys

import fixtures
from testtools import content

from vmmonitor.testing.guest import NovaMetadata
from vmmonitor.tests.live.base import WholeTest
from vmmonitor.tests.promises import shows

#: No instance is recovered.
LEAVE = """
version: 1
policies:
- name: leave
  match: {}
  steps: []
"""
MANAGE = "from vmmonitor.cmd.manage import main; main()"


@shows("P7")
class TestExplain(WholeTest):
    def setUp(self):
        super().setUp()
        directory = self.useFixture(fixtures.TempDir()).path
        self.deploy("fake://", f"sqlite:///{directory}/vmmonitor.db")
        self.standalone = self.watched(self.deployment.standalone(self.hypervisor()))
        self.guest_ = self.guest(defined=True, nova=NovaMetadata(name="web-1"))
        self.guest_.kill()
        self.recovered(self.guest_)
        (self.incident,) = self.deployment.incidents(self.guest_.uuid)

    def manage(self, *words: str) -> str:
        """Return the output of ``vmmonitor-manage`` with this deployment's configuration."""
        done = subprocess.run(
            [sys.executable, "-c", MANAGE, "--config-file", self.standalone.config, *words],
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        return done.stdout

    def test_explain_crash_shows_recovery(self):
        url = re.search(r"http://\S+", self.standalone.log()).group()
        text = self.deployment.command(url, "incident", "explain", self.incident.incident_id)
        self.addDetail("explained", content.text_content(text))
        flat = " ".join(text.split())
        self.assertEqual("Instance web-1 is running again.", text.splitlines()[0])
        in_order = [
            f"({self.incident.cause}), on host node-1",
            "tried 1 attempt, by driver libvirt, succeeded",
            "WHAT HAPPENED",
            "seen on node-1: it",
            "policy crashed applies: immediately, libvirt (3 attempts)",
            "asked the host's events, whether it failed or was stopped on purpose",
            f"answer libvirt reported {self.incident.cause}",
            "verdict: failed",
            "so its recovery starts (recovering)",
            "asked driver libvirt, to recover the instance: step 1 of 1, attempt 1 of 3, "
            "timeout 30 s",
            "so the incident is closed (resolved)",
            "HOW LONG IT TOOK",
            "stored in the spool of the host",
            "verdict: failed",
            "driver libvirt called",
            "seen running again",
            f"incident {self.incident.incident_id}",
        ]
        at = 0
        for words in in_order:
            self.assertIn(words, flat[at:])
            at = flat.index(words, at) + len(words)
        self.assertRegex(flat, r"down [\d.]+ (ms|s) ")
        self.assertIn("answer it was started and runs", flat)

    def test_replay_of_other_policy_shows_difference(self):
        path = self.deployment.file("leave.yaml", LEAVE)
        out = self.manage("policy", "replay", "--since", "1h", path)
        self.assertIn("was: recover, by crashed (hold 0 s; libvirt 3 x)", out)
        self.assertIn("now: leave, by leave (hold 0 s)", out)
        self.assertIn("compared 1 incidents: 1 would be decided differently", out)
        out = self.manage("policy", "explain", self.incident.incident_id)
        self.assertIn("the incident got the same policy: crashed", out)
