# SPDX-License-Identifier: Apache-2.0
"""A real guest dies under a silence: nothing is done, until the silence ends."""

import json
import signal

from vmmonitor.model.incident import HoldReason
from vmmonitor.model.states import IncidentState
from vmmonitor.tests.live.base import RESTART, WholeTest

SECOND = 1_000_000


class SilenceTest(WholeTest):
    def setUp(self):
        super().setUp()
        self.deploy()
        self.start(self.deployment.engine(options=self.policies(RESTART)))
        self.watched()
        self.url = self.deployment.serve_api()

    def silence(self, *words):
        """Run a silence command; return its output."""
        return json.loads(self.deployment.command(self.url, "silence", *words, "-f", "json"))

    def test_silenced_instance_is_recovered_after_expiry(self):
        muted, other = self.guests(2, defined=True)
        silence = self.silence(
            *("create", "--match", f"instance.name={muted.name}", "--for", "1h"),
            *("--comment", "on purpose", "--author", "ada"),
        )
        muted.kill(signal.SIGKILL)
        self.wait(lambda: self.states(muted) == [IncidentState.SILENCED], "it is not silenced")
        (incident,) = self.deployment.incidents(muted.uuid)
        self.assertEqual(HoldReason.SILENCE, incident.held_by)
        self.assertRegex(incident.reason, "^silenced by ada until .*: on purpose$")
        # The silence does not affect other instances.
        other.kill(signal.SIGKILL)
        self.recovered(other)
        self.assertEqual([IncidentState.SILENCED], self.states(muted))
        self.assertEqual([], self.deployment.recoveries(incident.incident_id))
        self.assertEqual({"silenced": 1}, self.silence("show", silence["silence_id"])["incidents"])
        self.silence("expire", silence["silence_id"], "--author", "bob")
        self.recovered(muted)
        entries = {step.message: step for step in self.deployment.steps(incident.incident_id)}
        ended = entries["the silence of ada (on purpose) was expired by bob"]
        first = self.deployment.recoveries(incident.incident_id)[0]
        self.assertLess(first.called_at - ended.at, 10 * SECOND)
