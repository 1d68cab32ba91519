# SPDX-License-Identifier: Apache-2.0
import logging

import fixtures
import testtools
from oslo_config import cfg

from vmmonitor.drivers.log import LogDriver
from vmmonitor.model.recovery import Outcome
from vmmonitor.testing import builders
from vmmonitor.testing.agents import FakeAgents


class TestLogDriver(testtools.TestCase):
    def test_log_line_contains_ids_and_cause(self):
        logged = self.useFixture(fixtures.FakeLogger("vmmonitor", level=logging.INFO))
        request = builders.request()
        outcome = LogDriver(cfg.ConfigOpts(), FakeAgents()).recover(request)
        self.assertEqual(Outcome(move="succeed", message="logged only"), outcome)
        (line,) = logged.output.splitlines()
        for word in (
            builders.UUID,
            builders.HOST,
            request.incident.incident_id,
            request.recovery.recovery_id,
            "lifecycle.stopped/failed",
        ):
            self.assertIn(word, line)
