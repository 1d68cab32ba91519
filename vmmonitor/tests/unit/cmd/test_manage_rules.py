# SPDX-License-Identifier: Apache-2.0
"""``vmmonitor-manage filter ...`` and ``policy ...``."""

import argparse
import contextlib
import io
import json
import os
import unittest.mock

import fixtures
import testtools

from vmmonitor import conf as configuration
from vmmonitor.cmd import launcher, manage_rules
from vmmonitor.rules import defaults, filters, policies

FILTERS = """\
version: 1
rules:
- name: web
  match: {instance.name: web}
  action: incident
- name: late
  match: {instance.name: web, type: watchdog}
  action: ignore
"""
POLICIES = """\
version: 1
policies:
- name: once
  match: {type: watchdog}
  hold: 5
  steps: [{driver: nosuch, attempts: -1}]
"""
CRASH = {"type": "lifecycle.stopped", "detail": "failed", "instance": {"name": "web"}}


class ManageRulesTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.directory = self.useFixture(fixtures.TempDir()).path
        self.conf = configuration.new([], files=[])

    def file(self, name, content):
        path = os.path.join(self.directory, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(content)
        return path

    def run_command(self, *words, stdin=""):
        """Return exit code, standard output and standard error."""
        parser = argparse.ArgumentParser()
        manage_rules.register(parser.add_subparsers(required=True))
        args = parser.parse_args(words)
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            unittest.mock.patch("sys.stdin", io.StringIO(stdin)),
        ):
            code = args.run(self.conf, args)
        return code, out.getvalue(), err.getvalue()

    def test_check_approves_shipped_files(self):
        for noun, name, load, things in (
            ("filter", defaults.EVENT_FILTERS, filters.load, "rules"),
            ("policy", defaults.RECOVERY_POLICIES, policies.load, "policies"),
        ):
            count = f"{len(load(defaults.path(name)).rows)} {things}"
            code, out, err = self.run_command(noun, "check", defaults.path(name))
            self.assertEqual((0, ""), (code, err))
            self.assertTrue(out.startswith(f"OK: {count}, sha256 "), out)
            self.assertNotIn("warning", out)

    def test_check_warns_about_rows_without_effect(self):
        code, out, _ = self.run_command("filter", "check", self.file("f.yaml", FILTERS))
        self.assertEqual(0, code)
        self.assertIn("warning: 'late' can never decide", out)
        code, out, _ = self.run_command("policy", "check", self.file("p.yaml", POLICIES))
        self.assertEqual(0, code)
        self.assertIn("warning: 'once': the driver 'nosuch' is not installed here", out)

    def test_check_rejects_invalid_file(self):
        path = self.file("f.yaml", "version: 1\nrules: {}\n")
        for noun in ("filter", "policy"):
            code, out, err = self.run_command(noun, "check", path)
            self.assertEqual((1, ""), (code, out))
            self.assertTrue(err.startswith(f"{path}:"), err)

    def test_explain_filter_shows_each_rule(self):
        path = self.file("f.yaml", FILTERS)
        event = self.file("e.json", json.dumps(CRASH | {"instance": {"name": "db"}}))
        code, out, err = self.run_command("filter", "explain", event, "--file", path)
        self.assertEqual((0, ""), (code, err))
        self.assertEqual(
            [
                f"lifecycle.stopped/failed from libvirt, by {path}:",
                "  web: no, instance.name = 'web' fails: it is 'db'",
                "  late: no, instance.name = 'web' fails: it is 'db'",
                "  default: matches",
                "-> record, info, by default",
            ],
            out.splitlines(),
        )

    def test_explain_filter_shows_count_of_rate(self):
        rated = FILTERS.replace("incident\n", "incident\n  rate: {count: 2, seconds: 60}\n")
        path = self.file("f.yaml", rated)
        event = self.file("e.json", json.dumps(CRASH))
        code, out, _ = self.run_command("filter", "explain", event, "--file", path)
        self.assertEqual(0, code)
        self.assertEqual(
            [
                "  web: no, 1 of 2 within 60 s per instance.uuid",
                "  late: no, type = 'watchdog' fails: it is 'lifecycle.stopped'",
                "  default: matches",
                "-> record, info, by default",
            ],
            out.splitlines()[1:],
        )

    def test_explain_policy_shows_its_steps(self):
        path = self.file("p.yaml", POLICIES)
        words = ("policy", "explain", "-", "--file", path)
        code, out, _ = self.run_command(*words, stdin='{"type": "watchdog"}')
        self.assertEqual(0, code)
        self.assertEqual(
            [
                f"watchdog from libvirt, by {path}:",
                "  once: matches",
                "-> once: hold 5 s",
                "   step 1: nosuch, attempts unlimited, timeout 30 s, wait for running 60 s",
            ],
            out.splitlines(),
        )
        code, out, _ = self.run_command(*words, stdin=json.dumps(CRASH))
        self.assertEqual(0, code)
        self.assertIn("-> no policy: the incident becomes unhandled", out)

    def test_explain_uses_file_in_force(self):
        self.useFixture(fixtures.MockPatchObject(self.conf, "find_file", return_value=None))
        words = ("filter", "explain", "-")
        _, out, _ = self.run_command(*words, stdin=json.dumps(CRASH))
        self.assertIn("-> incident, critical, by died", out)
        path = self.file("f.yaml", FILTERS)
        self.conf.set_override("filter_file", path, group="agent")
        _, out, _ = self.run_command(*words, stdin=json.dumps(CRASH))
        self.assertIn("-> incident, critical, by web", out)

    def test_file_beside_configuration_is_in_force(self):
        self.file(defaults.EVENT_FILTERS, FILTERS)
        conf = configuration.new([], files=[self.file("vmmonitor.conf", "")])
        self.assertEqual(
            os.path.join(self.directory, defaults.EVENT_FILTERS), launcher.filter_file(conf)
        )

    def test_shipped_file_is_in_force_without_another(self):
        self.useFixture(fixtures.MockPatchObject(self.conf, "find_file", return_value=None))
        self.assertEqual(
            defaults.path(defaults.RECOVERY_POLICIES), launcher.policy_file(self.conf)
        )

    def test_sample_prints_shipped_file(self):
        for words, name in (
            (("policy", "sample", "libvirt"), defaults.RECOVERY_POLICIES),
            (("policy", "sample", "openstack"), defaults.OPENSTACK_POLICIES),
            (("filter", "sample"), defaults.EVENT_FILTERS),
        ):
            code, out, err = self.run_command(*words)
            self.assertEqual((0, ""), (code, err))
            with open(defaults.path(name), encoding="utf-8") as file:
                self.assertEqual(file.read(), out)

    def test_sample_written_to_a_file_passes_check(self):
        _, out, _ = self.run_command("policy", "sample", "openstack")
        code, out, err = self.run_command("policy", "check", self.file("p.yaml", out))
        self.assertEqual((0, ""), (code, err))
        self.assertNotIn("warning", out)

    def test_sample_with_unknown_name_is_refused(self):
        with contextlib.redirect_stderr(io.StringIO()) as err:
            self.assertRaises(SystemExit, self.run_command, "policy", "sample", "other")
        self.assertIn("openstack", err.getvalue())

    def test_explain_rejects_invalid_event(self):
        for stdin, reason in (
            ("{", "-: not valid JSON: "),
            ("[]", "-: "),
            ("{}", "-: "),
            ('{"type": 5}', "-: "),
            ('{"type": "x", "instance": 5}', "-: "),
        ):
            for noun in ("filter", "policy"):
                code, out, err = self.run_command(noun, "explain", "-", stdin=stdin)
                self.assertEqual((1, ""), (code, out))
                self.assertTrue(err.startswith(reason), err)
        missing = os.path.join(self.directory, "missing")
        code, _, err = self.run_command("filter", "explain", missing)
        self.assertEqual((1, f"{missing}: No such file or directory\n"), (code, err))
