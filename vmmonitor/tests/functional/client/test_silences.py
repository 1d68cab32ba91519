# SPDX-License-Identifier: Apache-2.0
"""``silence create``, ``list``, ``show`` and ``expire``."""

import contextlib
import io
import json
import subprocess
import sys
from unittest import mock

from vmmonitor.db import incidents, silences
from vmmonitor.model.incident import UNTIL_RELEASED, HoldReason
from vmmonitor.tests.fixtures import sample
from vmmonitor.tests.functional.client import base


class TestSilence(base.CommandTest):
    def create(self, *words: str) -> dict:
        return self.parsed("silence", "create", "--comment", "kernel", "--author", "ada", *words)

    def refused(self, *words: str) -> str:
        done, out, err = self.run_command("silence", *words)
        self.assertEqual((1, ""), (done, out))
        return err

    def listed(self, *words: str) -> list[str]:
        return [silence["comment"] for silence in self.parsed("silence", "list", *words)]

    def test_create_silences_host(self):
        made = self.create("--host", "compute-1", "--for", "4h")
        self.assertEqual({"host": "compute-1"}, made["match"])
        self.assertEqual(("active", "ada", "kernel"), words(made))
        self.assertEqual({"pending": 1}, made["incidents"])
        self.assertEqual(made, self.parsed("silence", "show", made["silence_id"]))

    def test_create_combines_conditions(self):
        wanted = ("--match", "host=a", "--match", "host=b", "--match", "instance.name=~test-.*")
        made = self.create(*wanted, "--instance", sample.STORE.uuid.upper(), "--for", "1h")
        self.assertEqual(
            {
                "host": {"in": ["a", "b"]},
                "instance.name": {"=~": "test-.*"},
                "instance.uuid": sample.STORE.uuid,
            },
            made["match"],
        )
        self.assertEqual({}, made["incidents"])

    def test_create_accepts_start_and_end(self):
        span = ("--from", "2999-01-01 00:00", "--until", "2999-01-02T00:00:00+01:00")
        made = self.create("--everything", *span)
        self.assertEqual(("pending", {}), (made["state"], made["match"]))
        self.assertEqual("2999-01-01T23:00:00.000000Z", made["ends_at"])

    def test_table_shows_match_as_json(self):
        text = self.printed(
            "silence", "create", "--host", "compute-1", "--for", "4h", "--comment", "disk"
        )
        self.assertRegex(text, r"\| incidents +\| {\"pending\": 1} +\|")
        self.assertRegex(text, r"\| match +\| {\"host\": \"compute-1\"} +\|")
        self.assertIn('{"host": "compute-1"}', self.printed("silence", "list"))

    def test_default_author_is_login_name(self):
        with mock.patch("getpass.getuser", return_value="jane"):
            made = self.parsed("silence", "create", "--host", "a", "--for", "1h", "--comment", "x")
        self.assertEqual("jane", made["author"])

    def test_list_filters_by_state(self):
        self.create("--host", "a", "--for", "1h")
        self.create("--host", "b", "--from", "2999-01-01", "--for", "1h", "--author", "eve")
        old = sample.SILENCE.comment
        for asked, expected in (
            ((), ["kernel", "kernel"]),
            (("--active",), ["kernel"]),
            (("--expired",), [old]),
            (("--all",), ["kernel", "kernel", old]),
            (("--author", "eve"), ["kernel"]),
            (("--all", "--sort", "starts_at:asc", "--limit", "1"), [old]),
        ):
            self.assertEqual(expected, self.listed(*asked), asked)

    def test_expire_evaluates_incidents_again(self):
        made = self.create("--host", "compute-1", "--for", "4h")
        self.api.database.run(_silence, sample.FULL)
        ended = self.parsed("silence", "expire", made["silence_id"], "--author", "bob")
        self.assertEqual(("expired", "bob"), (ended["state"], ended["expired_by"]))
        self.assertEqual({"silenced": 1}, ended["incidents"])
        self.assertEqual([], self.listed())
        incident = self.parsed("incident", "show", sample.FULL.incident_id)
        self.assertEqual(
            "the silence of ada (kernel) was expired by bob", incident["timeline"][-1]["message"]
        )
        with self.api.database.reader() as tx:
            self.assertEqual([], silences.active(tx, self.api.database.now()))
            found = incidents.get(tx, sample.FULL.incident_id)
        self.assertLessEqual(found.hold_until, self.api.database.now())
        self.assertIn("already expired", self.refused("expire", made["silence_id"]))

    def test_invalid_arguments_are_rejected(self):
        known = ("--for", "1h", "--comment", "x")
        for asked, expected in (
            (known, "specify --match, --host or --instance"),
            (("--everything", "--host", "a", *known), "--everything cannot be combined"),
            (("--match", "hots=a", *known), "unknown field 'hots'; did you mean 'host'?"),
            (("--match", "project_id=a", *known), "did you mean 'instance.project_id'?"),
            (("--match", "host=~(", *known), "is not a regular expression"),
            (("--host", "a", "--for", "31d", "--comment", "x"), "max_silence_duration"),
            (("--host", "a", "--until", "1999-01-01", "--comment", "x"), "is not after"),
            (("--host", "a", "--for", "1h", "--comment", " "), "comment: ' ' is not a text"),
        ):
            self.assertIn(expected, self.refused("create", *asked))
        for asked in (
            ("--host", "a", "--comment", "x"),
            ("--host", "a", "--for", "1h"),
            ("--host", "a", "--for", "soon", "--comment", "x"),
            ("--match", "host", *known),
            ("--host", "a", "--for", "1h", "--until", "2999-01-01", "--comment", "x"),
        ):
            with contextlib.redirect_stderr(io.StringIO()):
                error = self.assertRaises(
                    SystemExit, self.run_command, "silence", "create", *asked
                )
            self.assertEqual(2, error.code)
        self.assertEqual([], self.listed())
        self.assertIn("Not found", self.refused("show", "nobody"))
        self.assertIn("Not found", self.refused("expire", "nobody"))

    def test_openstack_command_creates_silence(self):
        command = [sys.executable, "-m", "openstackclient.shell"]
        command += ["--os-auth-type", "admin_token", "--os-token", self.api.token]
        command += ["--os-endpoint", self.served.url]
        command += ["vmmonitor", "silence", "create", "--host", "a", "--for", "1h"]
        command += ["--comment", "kernel", "--author", "J\u00fcrgen", "-f", "json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        self.assertEqual(("active", "J\u00fcrgen", "kernel"), words(json.loads(done.stdout)))


def words(silence: dict) -> tuple[str, str, str]:
    return silence["state"], silence["author"], silence["comment"]


def _silence(tx, incident):
    changes = {"hold_until": UNTIL_RELEASED, "held_by": HoldReason.SILENCE}
    incidents.transition(
        tx, incident, "silence", reason="muted", now=incident.updated_at, **changes
    )
