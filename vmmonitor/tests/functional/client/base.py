# SPDX-License-Identifier: Apache-2.0
"""Runs the ``vmmonitor`` command in this process, against a real HTTP server."""

import io
import json
import logging
from typing import Any

import fixtures
import testtools

from vmmonitor.client import shell
from vmmonitor.tests.fixtures import api


class CommandTest(testtools.TestCase):
    """A test with the API over the sample's story, served."""

    filled = True

    def setUp(self) -> None:
        super().setUp()
        # Whatever the terminal is that the tests run in.
        self.useFixture(fixtures.EnvironmentVariable("COLUMNS", "100"))
        self.api = self.useFixture(api.Api(filled=self.filled))
        self.served = self.useFixture(api.Served(self.api.application))
        # cliff adds its own, which would go on writing to this test's output.
        root = logging.getLogger()
        self.addCleanup(setattr, root, "handlers", root.handlers[:])
        self.addCleanup(root.setLevel, root.level)
        # The service, in the same process, is not to be read in the command's errors.
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
        """Return what a command that succeeds prints."""
        code, out, err = self.run_command(*words)
        self.assertEqual((0, ""), (code, err))
        return out

    def told(self, *words: str) -> Any:
        """Return what a command that succeeds says in JSON."""
        return json.loads(self.printed(*words, "-f", "json"))
