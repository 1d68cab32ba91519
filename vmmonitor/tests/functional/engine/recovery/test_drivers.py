# SPDX-License-Identifier: Apache-2.0
"""Which drivers and expectations an engine finds, and what it says of those that it does not."""

import os
from unittest import mock

import fixtures

from vmmonitor import plugins
from vmmonitor.drivers.log import LogDriver
from vmmonitor.engine.recovery import drivers
from vmmonitor.expectation.libvirt import LibvirtExpectation
from vmmonitor.model.errors import InvalidRules
from vmmonitor.rules import defaults
from vmmonitor.testing.agents import FakeAgents
from vmmonitor.tests.functional.engine import base
from vmmonitor.tests.functional.engine.base import policy, step


class DriversTest(base.EngineCase):
    def drivers(self) -> drivers.Drivers:
        return drivers.Drivers(self.conf, FakeAgents())

    def test_one_is_built_once(self):
        made = self.drivers()
        self.assertIsInstance(made.get("log"), LogDriver)
        self.assertIs(made.get("log"), made.get("log"))

    def test_one_that_is_not_installed(self):
        with self.assertRaisesRegex(plugins.NotInstalled, "absent"):
            self.drivers().get("absent")

    def test_the_shipped_policies_name_what_is_installed(self):
        loaded = self.drivers().load_policies(defaults.path(defaults.RECOVERY_POLICIES))
        self.assertIn("crashed", [row.name for row in loaded.rows])

    def test_a_policy_with_a_driver_that_is_not_installed_is_refused(self):
        path = self.load(policy(steps=[step("log"), step("absent")])).path
        with self.assertRaisesRegex(InvalidRules, "policies.yaml:1:.*: policy restart: .*absent"):
            self.drivers().load_policies(path)

    def test_options_that_a_driver_does_not_know_are_refused_where_they_stand(self):
        text = """version: 1
policies:
- name: loud
  match: {}
  steps:
  - driver: webhook
  - driver: log
    options:
      level: 3
"""
        path = os.path.join(self.useFixture(fixtures.TempDir()).path, "policies.yaml")
        with open(path, "w") as file:
            file.write(text)
        refused = r"policies.yaml:9:14: policy loud: .*no such option: option 'level'$"
        with self.assertRaisesRegex(InvalidRules, refused):
            self.drivers().load_policies(path)

    def test_one_that_cannot_be_built_is_refused(self):
        def no_such_file(*_):
            raise OSError("no such key file")

        path = self.load(policy(steps=[step("log")])).path
        broken = mock.patch.object(plugins, "load", lambda *_: no_such_file)
        with broken, self.assertRaisesRegex(InvalidRules, "policy restart: .*no such key file"):
            self.drivers().load_policies(path)

    def test_the_expectation_in_force(self):
        self.assertIsInstance(drivers.expectation(self.conf), LibvirtExpectation)
        self.conf.set_override("expectation", "absent", "engine")
        with self.assertRaises(plugins.NotInstalled):
            drivers.expectation(self.conf)
