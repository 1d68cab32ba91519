# SPDX-License-Identifier: Apache-2.0
"""Run the ``vmmonitor`` command in this process, with a real HTTP server."""

import io
import json
import logging
from typing import Any

import fixtures
import testtools

from vmmonitor.client import shell
from vmmonitor.tests.fixtures import api


class CommandTest(testtools.TestCase):
    """A test with a server of the API and the sample data."""

    filled = True

    def setUp(self) -> None:
        super().setUp()
        # Independent of the terminal of the test run.
        self.useFixture(fixtures.EnvironmentVariable("COLUMNS", "100"))
        self.api = self.useFixture(api.Api(filled=self.filled))
        self.served = self.useFixture(api.Served(self.api.application))
        # cliff adds handlers, which would keep writing to the output of this test.
        root = logging.getLogger()
        self.addCleanup(setattr, root, "handlers", root.handlers[:])
        self.addCleanup(root.setLevel, root.level)
        # The log of the service must not be mixed with the errors of the command.
        service = logging.getLogger("vmmonitor.api")
        self.addCleanup(setattr, service, "propagate", service.propagate)
        service.propagate = False

    def run_command(self, *words: str, endpoint: str | None = None) -> tuple[int, str, str]:
        """Return a command's exit code, output and errors."""
        out, err = io.StringIO(), io.StringIO()
        command = shell.Shell(
            description=None,
            version=None,
            command_manager=shell.PluginCommands(shell.PluginCommands.NAMESPACE),
            stdout=out,
            stderr=err,
        )
        code = command.run(["--endpoint", endpoint or self.served.url, *words])
        return code, out.getvalue(), err.getvalue()

    def printed(self, *words: str) -> str:
        """Return the output of a successful command."""
        code, out, err = self.run_command(*words)
        self.assertEqual((0, ""), (code, err))
        return out

    def parsed(self, *words: str) -> Any:
        """Return the parsed JSON output of a successful command."""
        return json.loads(self.printed(*words, "-f", "json"))
