# SPDX-License-Identifier: Apache-2.0
"""Test ``tools/quickstart`` with everything installed."""

import datetime
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import fixtures
import testtools

import vmmonitor
from vmmonitor.testing.processes import wait_until

CHECKOUT = pathlib.Path(vmmonitor.__file__).parent.parent
TIMES = ["callback_ms", "stored_ms", "recovery_called_ms", "running_again_ms"]
RUN_S = 180


class QuickstartTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.useFixture(fixtures.TempDir()).path
        self.command = [sys.executable, str(CHECKOUT / "tools/lib/quickstart.py")]
        self.command += ["--kept", os.path.join(directory, "kept")]
        self.useFixture(fixtures.EnvironmentVariable("PYTHONPATH", str(CHECKOUT)))

    def quickstart(self, *arguments):
        """Run it and return (exit code, standard output, standard error)."""
        done = subprocess.run(
            [*self.command, *arguments], capture_output=True, text=True, timeout=RUN_S
        )
        return done.returncode, done.stdout, done.stderr

    def test_json_output_is_one_object_with_ordered_times(self):
        began = datetime.datetime.now(datetime.UTC)
        code, output, progress = self.quickstart("--json")
        self.assertEqual(0, code, progress)
        result = json.loads(output)
        self.assertEqual(["killed_at", *TIMES, "guest_answers"], list(result))
        killed_at = datetime.datetime.fromisoformat(result["killed_at"])
        self.assertLess(began, killed_at)
        self.assertLess(killed_at, datetime.datetime.now(datetime.UTC))
        times = [result[name] for name in TIMES]
        self.assertEqual(sorted(times), times)
        self.assertGreater(times[0], 0)
        self.assertIs(True, result["guest_answers"])
        self.assertIn("answers on its serial port again", progress)

    def test_kept_deployment_can_be_used_and_stopped(self):
        self.addCleanup(self.quickstart, "--stop")
        code, output, progress = self.quickstart("--keep")
        self.assertEqual(0, code, progress)
        for lists in ("incident show", "event list", "incident list", "recovery list"):
            self.assertIn(f"$ vmmonitor {lists}", output)
        self.assertIn("recovering -> resolved", output)

        subprocess.run(re.search(r"^  (kill .*)$", output, re.M)[1], shell=True, check=True)
        command = f"{output[output.index('  export PATH') : output.index('  vmmonitor event')]}"
        command += "vmmonitor incident list --closed -f value -c cause"

        def closed():
            return subprocess.run(command, shell=True, capture_output=True, text=True).stdout

        wait_until(lambda: len(closed().splitlines()) == 2, 30, "the second kill is not over")

        code, _, error = self.quickstart("--keep")
        self.assertEqual(1, code)
        self.assertIn("was left running already", error)

        directory = re.search(r"/tmp/vm-\w+", output)[0]
        self.assertTrue(os.path.exists(directory))
        self.assertEqual(0, self.quickstart("--stop")[0])
        self.assertFalse(os.path.exists(directory))
        self.assertIn("nothing is left running", self.quickstart("--stop")[2])

    def test_interrupt_stops_every_process(self):
        running = subprocess.Popen([*self.command, "--json"], stderr=subprocess.PIPE, text=True)
        for line in running.stderr:
            if "starting vmmonitor-standalone" in line:
                break
        reaper = subprocess.run(
            ["pgrep", "-a", "-P", str(running.pid)], capture_output=True, text=True
        ).stdout
        directory = re.search(r"/tmp/vm-\w+", reaper)[0]
        running.send_signal(signal.SIGINT)
        rest = running.communicate(timeout=60)[1]
        self.assertEqual(130, running.returncode)
        self.assertIn("cleaning up", rest)
        self.assertFalse(os.path.exists(directory))
