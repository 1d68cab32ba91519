# SPDX-License-Identifier: Apache-2.0
"""The same commands in openstackclient and in the shell."""

import importlib.metadata
import json
import subprocess
import sys

from vmmonitor.client import shell
from vmmonitor.tests.fixtures import sample
from vmmonitor.tests.functional.client import base


class TestPlugin(base.CommandTest):
    def test_openstack_command_prints_the_same(self):
        command = [sys.executable, "-m", "openstackclient.shell"]
        command += ["--os-auth-type", "admin_token", "--os-token", self.api.token]
        command += ["--os-endpoint", self.served.url]
        command += ["vmmonitor", "incident", "show", sample.CRASH.incident_id, "-f", "json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        self.assertEqual(
            self.parsed("incident", "show", sample.CRASH.incident_id), json.loads(done.stdout)
        )

    def test_shell_has_each_command_of_plugin_without_prefix(self):
        namespace = shell.PluginCommands.NAMESPACE
        plugin = importlib.metadata.entry_points(group=namespace).names
        self.assertIn("vmmonitor_request_list", plugin)
        expected = {name.removeprefix("vmmonitor_").replace("_", " ") for name in plugin}
        self.assertEqual(expected, set(dict(shell.PluginCommands(namespace))))
