# SPDX-License-Identifier: Apache-2.0
"""The WSGI application in a real server, from a configuration file."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import fixtures
import testtools

from vmmonitor.tests.fixtures import api


def free_port() -> int:
    """Return an unused port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class TestServed(testtools.TestCase):
    def serve(self, where: str, **environment: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "cheroot", "vmmonitor.wsgi.api:application"]
        process = subprocess.Popen(
            [*command, "--bind", where],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            # Older versions of oslo.utils import eventlet, which prints a warning.
            env=os.environ | {"PYTHONWARNINGS": "ignore"} | environment,
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def fetch(self, url: str, token: str) -> dict:
        """Return the response, and wait up to 30 s for the server."""
        for _ in range(300):
            try:
                return api.get(url, token)
            except urllib.error.URLError:
                time.sleep(0.1)
        raise AssertionError(f"{url} does not respond")

    def test_application_runs_from_configuration_file(self):
        served = self.useFixture(api.Api())
        where = f"127.0.0.1:{free_port()}"
        self.serve(where, VMMONITOR_CONFIG_FILES=served.config)
        versions = self.fetch(f"http://{where}/", served.token)["versions"]
        self.assertEqual("v1.0", versions[0]["id"])
        incidents = self.fetch(f"http://{where}/v1/incidents", served.token)["incidents"]
        self.assertEqual(2, len(incidents))

    def assert_not_started(self, text: str, *words: str) -> None:
        """Check that the application does not start and reports the error in one line."""
        path = os.path.join(self.useFixture(fixtures.TempDir()).path, "vmmonitor.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        process = self.serve("127.0.0.1:0", VMMONITOR_CONFIG_FILES=path)
        _, err = process.communicate(timeout=60)
        self.assertNotEqual(0, process.returncode)
        self.assertEqual(1, err.count("\n"), err)
        for word in ("vmmonitor API: invalid configuration", *words):
            self.assertIn(word, err)

    def test_missing_database_is_reported(self):
        self.assert_not_started("[DEFAULT]\n", "[database] connection is not set")

    def test_invalid_value_is_reported(self):
        self.assert_not_started("[api]\nmax_limit = many\n", "max_limit", "many")

    def test_unknown_auth_strategy_is_reported(self):
        broken = "[database]\nconnection = sqlite://\n[api]\nauth_strategy = trust\n"
        self.assert_not_started(broken, "auth_strategy", "trust")

    def test_missing_configuration_file_is_reported(self):
        process = self.serve("127.0.0.1:0", VMMONITOR_CONFIG_FILES="/nowhere/vmmonitor.conf")
        _, err = process.communicate(timeout=60)
        self.assertIn("/nowhere/vmmonitor.conf", err)
        self.assertEqual(1, err.count("\n"), err)
