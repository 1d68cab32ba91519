# SPDX-License-Identifier: Apache-2.0
"""tools/bench: each part works, with tiny sizes."""

import json
import subprocess
import sys

import testtools
from testtools import content

from vmmonitor.tests.bench import figures
from vmmonitor.tests.promises import shows


class BenchTest(testtools.TestCase):
    timeout_s = 300

    def assert_measures(self, part: str) -> None:
        command = [sys.executable, "-m", "vmmonitor.tests.bench", part, "--tiny", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=self.timeout_s)
        self.addDetail("progress", content.text_content(done.stderr))
        self.assertEqual(0, done.returncode)
        result = json.loads(done.stdout)
        self.assertEqual([part], list(result))
        self.assertEqual(set(figures.KEYS[part]), set(result[part]))


@shows("P10")
class TestBench(BenchTest):
    def test_latency_prints_its_figures(self):
        self.assert_measures("latency")

    def test_throughput_prints_its_figures(self):
        self.assert_measures("throughput")

    def test_agent_prints_its_figures(self):
        self.assert_measures("agent")

    def test_decisions_prints_its_figures(self):
        self.assert_measures("decisions")

    def test_accuracy_prints_its_figures(self):
        self.assert_measures("accuracy")

    def test_storm_prints_its_figures(self):
        self.assert_measures("storm")

    def test_signing_prints_its_figures(self):
        self.assert_measures("signing")


class TestTimeLimit(testtools.TestCase):
    def test_part_that_hangs_ends_with_an_error(self):
        code = (
            "import threading\n"
            "from vmmonitor.tests.bench import __main__ as bench\n"
            "bench.GRACE_S = 2\n"
            "with bench.time_limit('decisions', 1):\n"
            "    threading.Thread(target=threading.Event().wait).start()\n"
            "    threading.Event().wait()\n"
        )
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        self.assertNotEqual(0, done.returncode)
        self.assertIn("TimeoutError: decisions is not finished after 1 s", done.stderr)
