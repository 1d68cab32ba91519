# SPDX-License-Identifier: Apache-2.0
"""Test the effect, the output and the exit code of ``vmmonitor-manage host`` and ``broker``."""

import argparse
import contextlib
import io
import json
import os
import re
import shlex
import stat

import fixtures
import testtools

from vmmonitor.cmd import manage_broker, manage_host
from vmmonitor.db import schema, session
from vmmonitor.rpc import transport as transports
from vmmonitor.rpc.keys import HostKeys, MasterKeys
from vmmonitor.tests.fixtures import database


class ManageHostTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.directory = self.useFixture(fixtures.TempDir()).path
        self.conf = database.conf(f"sqlite:///{self.directory}/vm.sqlite")
        self.master = os.path.join(self.directory, "master_keys")
        self.conf.set_override("master_key_file", self.master, group="rpc")
        made = session.Database(self.conf)
        schema.sync(made)
        made.dispose()

    def run_command(self, *words: str) -> tuple[int, str, str]:
        """Run ``vmmonitor-manage ...``; return exit code, output and errors."""
        parser = argparse.ArgumentParser()
        nouns = parser.add_subparsers(required=True)
        manage_host.register(nouns)
        manage_broker.register(nouns)
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                args = parser.parse_args(words)
            except SystemExit as error:
                return int(error.code or 0), out.getvalue(), err.getvalue()
            code = args.run(self.conf, args)
        return code, out.getvalue(), err.getvalue()

    def succeed(self, *words: str) -> str:
        code, out, err = self.run_command(*words)
        self.assertEqual((0, ""), (code, err))
        return out

    def fail(self, *words: str) -> str:
        code, out, err = self.run_command(*words)
        self.assertNotEqual(0, code)
        self.assertEqual("", out)
        return err

    def test_rotate_without_host_adds_a_master_key_that_is_the_newest(self) -> None:
        self.assertIn("Added master key 1", self.succeed("host", "rotate"))
        first = MasterKeys(self.master)
        self.assertIn("Added master key 2", self.succeed("host", "rotate"))
        second = MasterKeys(self.master)
        self.assertEqual(("1", "2"), (first.newest_id, second.newest_id))
        self.assertEqual(first.find("a", "1"), second.find("a", "1"))
        self.assertEqual(0o600, stat.S_IMODE(os.stat(self.master).st_mode))
        self.assertEqual(["master_keys", "vm.sqlite"], sorted(os.listdir(self.directory)))

    def test_key_is_a_key_file_of_the_host_that_engines_accept(self) -> None:
        self.succeed("host", "rotate")
        path = os.path.join(self.directory, "compute1.key")
        printed = self.succeed("host", "key", "compute1")
        self.assertNotIn(
            MasterKeys(self.master).find("compute1", "1").hex(),
            self.succeed("host", "key", "compute1", "--output", path),
        )
        with open(path) as file:
            self.assertEqual(printed, file.read())
        expected = MasterKeys(self.master).of_host("compute1")
        self.assertEqual(expected, HostKeys(path, "compute1").of_host("compute1"))

    def test_rotate_of_a_host_needs_a_newer_master_key(self) -> None:
        self.succeed("host", "rotate")
        self.succeed("host", "key", "compute1")
        self.assertIn("already has a key of master key 1", self.fail("host", "rotate", "compute1"))
        self.succeed("host", "rotate")
        self.assertIn("\n2 ", self.succeed("host", "rotate", "compute1"))

    def test_list_shows_registered_hosts_and_their_keys(self) -> None:
        self.succeed("host", "rotate")
        self.assertEqual("Registered host b.\n", self.succeed("host", "add", "b"))
        self.assertEqual("Host b is already registered.\n", self.succeed("host", "add", "b"))
        self.succeed("host", "key", "a")
        head, first, second = self.succeed("host", "list").splitlines()
        self.assertEqual(["HOST", "ADDED", "ISSUED", "KEY", "USED", "KEY", "AGENT"], head.split())
        self.assertRegex(first, r"^a +\S+Z +1 +- +-$")
        self.assertRegex(second, r"^b +\S+Z +- +- +-$")
        found = json.loads(self.succeed("host", "list", "--json"))
        self.assertEqual([("a", "1"), ("b", "")], [(x["host"], x["issued_key"]) for x in found])

    def test_commands_without_keys_say_what_is_missing(self) -> None:
        self.assertIn("cannot read the key file", self.fail("host", "key", "a"))
        self.conf.set_override("master_key_file", "", group="rpc")
        for words in (("host", "key", "a"), ("host", "rotate")):
            self.assertIn("[rpc] master_key_file must be set", self.fail(*words))
        for name in ("a\nb", "a/b", "..", "a b", "é"):
            self.assertIn("must be the name of a host", self.fail("host", "add", name))

    def test_output_that_cannot_be_written_is_an_error(self) -> None:
        self.succeed("host", "rotate")
        error = self.fail("host", "key", "a", "--output", f"{self.directory}/no/a.key")
        self.assertIn("cannot write", error)

    def test_broker_permissions_name_the_queues_of_the_host_only(self) -> None:
        self.assertEqual("/", transports.configured_vhost(self.conf))
        self.conf.set_override("transport_url", "rabbit://u:p@broker:5672/own")
        lines = self.succeed("broker", "permissions", "c1.example").splitlines()
        words = [shlex.split(line) for line in lines if not line.startswith("#")]
        user = "vmmonitor-c1.example"
        self.assertEqual(["rabbitmqctl", "add_user", user, "PASSWORD"], words[0])
        *start, configure, write, read = words[1]
        self.assertEqual(["rabbitmqctl", "set_permissions", "-p", "own", user], start)
        for name, allowed in (
            ("vmmonitor-agent.c1.example", True),
            ("vmmonitor-agent_fanout_" + "0" * 32, True),
            ("reply_" + "0" * 32, True),
            ("vmmonitor-agent.c1-example", False),
            ("vmmonitor-agent.c1.example2", False),
            ("vmmonitor-engine", False),
            ("nova", False),
        ):
            for expression in (configure, write, read):
                self.assertEqual(allowed, bool(re.search(expression, name)), (name, expression))
        self.assertFalse(re.search(read, "amq.default"))
        self.assertTrue(re.search(write, "amq.default"))
        *start, publish, consume = words[2]
        self.assertEqual(["set_topic_permissions", "-p", "own", user, "vmmonitor"], start[1:])
        self.assertTrue(re.search(publish, "vmmonitor-engine"))
        self.assertFalse(re.search(publish, "vmmonitor-agent.c2"))
        self.assertTrue(re.search(consume, "vmmonitor-agent.c1.example"))
