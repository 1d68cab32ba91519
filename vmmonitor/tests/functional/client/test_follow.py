# SPDX-License-Identifier: Apache-2.0
"""``event list --follow`` in its own process, and its end."""

import json
import os
import signal
import subprocess
import sys

import fixtures

from vmmonitor.db import events
from vmmonitor.model import errors
from vmmonitor.tests.fixtures import sample
from vmmonitor.tests.functional.client import base


class TestFollow(base.CommandTest):
    def start(self, *words: str) -> subprocess.Popen:
        # A parent that ignores SIGINT, such as nohup or a background job of a script, would have
        # the command ignore it as well.
        command = ["env", "--default-signal=INT", sys.executable]
        command += ["-m", "vmmonitor.client.shell", "event", "list", *words]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"VMMONITOR_ENDPOINT": self.served.url},
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def insert(self, event_id: str) -> None:
        with self.api.database.writer() as tx:
            events.insert(tx, [sample.stored(event_id, 70_000_000)])

    def assert_interrupted(self, process: subprocess.Popen) -> None:
        """Check that Ctrl-C ends the command without an error."""
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        self.assertEqual((0, "", ""), (process.returncode, out, err))

    def test_follow_prints_json_lines(self):
        process = self.start("--follow", "--limit", "2", "-f", "json")
        read = process.stdout.readline
        self.assertEqual([3, 4], [int(json.loads(read())["event_id"][-1]) for _ in range(2)])
        for event_id in ("one", "two"):
            self.insert(event_id)
            self.assertEqual(event_id, json.loads(read())["event_id"])
        self.assert_interrupted(process)

    def test_follow_prints_filtered_table(self):
        words = ("--follow", "--host", "compute-2", "-c", "event_id", "-c", "host")
        process = self.start(*words)
        self.assertEqual(f"{'event_id':36}  host\n", process.stdout.readline())
        self.assertIn("0004  compute-2\n", process.stdout.readline())
        self.assert_interrupted(process)

    def test_follow_continues_after_database_outage(self):
        process = self.start("--follow", "--limit", "1", "-f", "value", "-c", "event_id")
        self.assertIn("0004", process.stdout.readline())
        away = errors.Retriable("The database cannot be reached")
        with fixtures.MockPatchObject(self.api.database, "reader", side_effect=away):
            warning = process.stderr.readline()
        self.assertIn("The database cannot be reached (HTTP status 503", warning)
        self.assertTrue(warning.endswith("Trying again.\n"), warning)
        self.insert("meanwhile")
        self.assertEqual("meanwhile\n", process.stdout.readline())
        self.assert_interrupted(process)

    def run_without_reader(self, *words: str, **environment: str) -> subprocess.CompletedProcess:
        """Run the shell with a standard output whose reader is gone."""
        reader, writer = os.pipe()
        os.close(reader)
        known = {name: os.environ[name] for name in os.environ if name != "PYTHONUNBUFFERED"}
        with open(writer, "wb") as output:
            return subprocess.run(
                [sys.executable, "-m", "vmmonitor.client.shell", *words],
                stdout=output,
                stderr=subprocess.PIPE,
                text=True,
                env=known | {"VMMONITOR_ENDPOINT": self.served.url} | environment,
                timeout=60,
            )

    def test_closed_pipe_ends_command(self):
        for environment in ({}, {"PYTHONUNBUFFERED": "1"}):
            done = self.run_without_reader("event", "list", "--limit", "4", **environment)
            self.assertEqual((141, ""), (done.returncode, done.stderr), environment)

    def test_closed_pipe_ends_version(self):
        done = self.run_without_reader("--version")
        self.assertEqual((141, ""), (done.returncode, done.stderr))
