# SPDX-License-Identifier: Apache-2.0
"""``vmmonitor-manage driver check``: the drivers of the policies in force."""

import argparse
import contextlib
import io
import threading
import time
from collections.abc import Callable
from unittest import mock

import fixtures
import testtools

from vmmonitor import conf as configuration
from vmmonitor import plugins
from vmmonitor.cmd import manage_drivers
from vmmonitor.drivers import Driver
from vmmonitor.drivers.log import LogDriver
from vmmonitor.rpc import transport as transports

POLICIES = """version: 1
policies:
- name: first
  match: {}
  steps: [{driver: log}, {driver: well}, {driver: off, enabled: false}]
- name: second
  match: {}
  steps: [{driver: well}, {driver: ill}]
"""


def driver(answer: Callable[[], str]) -> type[Driver]:
    """Return a driver with this result of its check."""

    class Checked(LogDriver):
        def check(self) -> str:
            return answer()

    return Checked


class ManageDriversTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        over = threading.Event()
        self.addCleanup(over.set)

        def broken() -> str:
            raise OSError("no such key file")

        def hangs() -> str:
            over.wait(30)
            return ""

        known = {
            "log": LogDriver,
            "well": driver(lambda: ""),
            "ill": driver(lambda: "keystone does not answer"),
            "broken": driver(broken),
            "hangs": driver(hangs),
        }

        def load(_namespace: str, name: str) -> type[Driver]:
            if name not in known:
                raise plugins.NotInstalled(name=name)
            return known[name]

        patch = mock.patch.object(plugins, "load", load)
        patch.start()
        self.addCleanup(patch.stop)
        self.conf = configuration.new([], files=[])
        self.policies(POLICIES)

    def policies(self, text: str) -> None:
        path = f"{self.useFixture(fixtures.TempDir()).path}/policies.yaml"
        with open(path, "w") as file:
            file.write(text)
        self.conf.set_override("policy_file", path, "recovery")

    def check(self, *words: str) -> tuple[int, list[str], str]:
        """Return exit code, lines and errors."""
        parser = argparse.ArgumentParser()
        manage_drivers.register(parser.add_subparsers())
        args = parser.parse_args(["driver", "check", *words])
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = args.run(self.conf, args)
        return code, out.getvalue().splitlines(), err.getvalue()

    def test_check_without_names_checks_drivers_in_force_once(self):
        lines = ["log: OK", "well: OK", "ill: keystone does not answer"]
        self.assertEqual((1, lines, ""), self.check())

    def test_check_with_names_checks_only_these(self):
        self.assertEqual((0, ["well: OK"], ""), self.check("well"))

    def test_driver_that_is_not_installed_is_reported(self):
        code, (line,), _ = self.check("absent")
        self.assertEqual(1, code)
        self.assertIn("absent: The plug-in is not installed", line)

    def test_driver_that_raises_is_reported(self):
        self.assertEqual((1, ["broken: OSError: no such key file"], ""), self.check("broken"))

    def test_driver_that_hangs_does_not_delay_the_next(self):
        began = time.monotonic()
        code, lines, _ = self.check("hangs", "well", "--timeout", "0.2")
        self.assertEqual((1, ["hangs: no answer within 0.2 s", "well: OK"]), (code, lines))
        self.assertLess(time.monotonic() - began, 10)

    def test_invalid_policy_file_is_reported(self):
        self.policies("version: 1\npolicies: [{name: 7}]\n")
        code, lines, err = self.check()
        self.assertEqual((1, []), (code, lines))
        self.assertIn("policies.yaml:2", err)

    def test_invalid_transport_url_is_reported(self):
        transports.new(self.conf)
        self.conf.set_override("transport_url", "nothing://here/")
        code, _, err = self.check("well")
        self.assertEqual(1, code)
        self.assertIn("transport_url", err)

    def test_invalid_timeout_is_rejected(self):
        with contextlib.redirect_stderr(io.StringIO()):
            for seconds in ("0", "-1", "nan", "soon", "1e9"):
                self.assertRaises(SystemExit, self.check, "well", "--timeout", seconds)
