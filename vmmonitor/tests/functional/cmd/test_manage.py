# SPDX-License-Identifier: Apache-2.0
"""``vmmonitor-manage`` in its own process."""

import json
import os
import sqlite3
import subprocess
import sys

import fixtures
import testtools

from vmmonitor.agent.spool import Spool
from vmmonitor.rules import defaults

AT = 1_795_353_339_000_123
RUN = "from vmmonitor.cmd.manage import main; main()"


def delivery(event_id):
    return {
        "event_id": event_id,
        "type": "lifecycle.stopped",
        "occurred_at": AT,
        "decision": {"action": "record"},
    }


class ManageTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.directory = self.useFixture(fixtures.TempDir()).path
        self.path = os.path.join(self.directory, "spool.db")
        self.config = self.file(
            "vmmonitor.conf",
            f"[spool]\npath = {self.path}\n"
            f"[database]\nconnection = sqlite:///{self.directory}/vmmonitor.db\n",
        )

    def file(self, name, content):
        path = os.path.join(self.directory, name)
        with open(path, "w") as file:
            file.write(content)
        return path

    def manage(self, *words):
        """Return exit code, output and errors; check that there is no traceback."""
        done = subprocess.run(
            [sys.executable, "-c", RUN, "--config-file", self.config, *words],
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertNotIn("Traceback", done.stderr)
        return done.returncode, done.stdout, done.stderr

    def spool(self):
        spool = Spool(self.path, 100, 1 << 24)
        self.addCleanup(spool.close)
        return spool

    def filled(self):
        spool = self.spool()
        spool.append([delivery("a"), delivery("b"), delivery("c")], {"u": {"n": 1}})
        first, *_ = spool.read(9)
        spool.settle([first], {first.sequence: "too strange"}, AT + 1_000_000)
        return spool

    # -- spool ---------------------------------------------------------------------------------
    def test_closed_pipe_ends_command(self):
        reader, writer = os.pipe()
        os.close(reader)
        # PYTHONUNBUFFERED would leave nothing for the interpreter's last flush.
        known = {name: os.environ[name] for name in os.environ if name != "PYTHONUNBUFFERED"}
        words = [sys.executable, "-c", RUN, "policy", "sample", "openstack"]
        with open(writer, "wb") as output:
            done = subprocess.run(
                words, stdout=output, stderr=subprocess.PIPE, text=True, env=known, timeout=60
            )
        self.assertEqual((141, ""), (done.returncode, done.stderr))

    def test_spool_show_lists_waiting_events_while_agent_runs(self):
        self.filled()
        code, out, err = self.manage("spool", "show")
        self.assertEqual((0, ""), (code, err))
        self.assertIn("2 events not acknowledged", out)
        self.assertIn("oldest:    2026-11-22T13:15:39.000Z", out)
        self.assertIn("instances: 1 remembered", out)
        self.assertIn("2026-11-22T13:15:40.000Z  a  lifecycle.stopped: too strange", out)

    def test_spool_show_prints_json(self):
        self.filled()
        code, out, _ = self.manage("spool", "show", "--json")
        found = json.loads(out)
        (refused,) = found.pop("refused")
        self.assertEqual(("a", "too strange"), (refused["event_id"], refused["reason"]))
        self.assertEqual("lifecycle.stopped", refused["event"]["type"])
        self.assertEqual(
            {
                "path": self.path,
                "depth": 2,
                "oldest": "2026-11-22T13:15:39.000Z",
                "known_instances": 1,
                "refused_count": 1,
            },
            found,
        )

    def test_spool_show_of_empty_spool_has_no_oldest_event(self):
        self.spool().close()
        self.assertIn("oldest:    -", self.manage("spool", "show")[1])
        self.assertIsNone(json.loads(self.manage("spool", "show", "--json")[1])["oldest"])

    def test_spool_show_does_not_create_missing_spool(self):
        code, _, err = self.manage("spool", "show")
        self.assertEqual((1, f"vmmonitor-manage: there is no spool at {self.path}\n"), (code, err))
        self.assertFalse(os.path.exists(self.path))

    def test_spool_show_reports_damaged_spool_and_keeps_it(self):
        for content in ("this is not a database\n" * 1000, ""):
            self.file("spool.db", content)
            code, _, err = self.manage("spool", "show")
            self.assertEqual(1, code)
            self.assertIn(self.path, err)
            self.assertEqual(1, err.count("\n"))
            with open(self.path) as file:
                self.assertEqual(content, file.read())

    def test_spool_show_reports_malformed_row(self):
        self.filled().close()
        with sqlite3.connect(self.path) as db:
            db.execute("UPDATE refused SET body = 'torn'")
        code, _, err = self.manage("spool", "show")
        self.assertEqual(1, code)
        self.assertIn("malformed row", err)

    # -- other nouns ---------------------------------------------------------------------------
    def test_filter_check_and_explain_work(self):
        code, out, _ = self.manage("filter", "check", defaults.path(defaults.EVENT_FILTERS))
        self.assertEqual((0, "OK"), (code, out[:2]))
        broken = self.file("broken.yaml", "version: 1\nrules: [{name: x}]\n")
        code, _, err = self.manage("filter", "check", broken)
        self.assertEqual(1, code)
        self.assertIn(f"{broken}:2", err)
        crash = self.file("crash.json", '{"type": "lifecycle.stopped", "detail": "failed"}')
        code, out, _ = self.manage("filter", "explain", crash)
        self.assertEqual(0, code)
        self.assertIn("-> incident, critical, by died", out)

    def test_driver_check_reports_each_driver(self):
        self.assertEqual((0, "log: OK\n", ""), self.manage("driver", "check", "log"))
        code, out, _ = self.manage("driver", "check", "log", "webhook")
        self.assertEqual(1, code)
        self.assertIn("webhook: [webhook] url must be set", out)

    def test_db_commands_work(self):
        self.assertIn("no tables", self.manage("db", "version")[1])
        self.assertEqual(0, self.manage("db", "sync")[0])
        self.assertEqual(0, self.manage("db", "sync")[0])
        code, out, _ = self.manage("db", "purge", "--older-than", "30")
        self.assertEqual((0, "Deleted 0 events and 0 incidents.\n"), (code, out))

    def test_invalid_configuration_is_one_line(self):
        self.config = self.file("vmmonitor.conf", "[spool\n")
        code, _, err = self.manage("spool", "show")
        self.assertEqual((1, 1), (code, err.count("\n")))
        self.assertIn("vmmonitor.conf", err)
