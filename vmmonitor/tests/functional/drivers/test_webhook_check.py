# SPDX-License-Identifier: Apache-2.0
"""Test the health check of the webhook driver."""

import socket

import fixtures

from vmmonitor.tests.fixtures.receiver import Receiver
from vmmonitor.tests.functional.drivers.test_webhook import WebhookTest


class TestCheck(WebhookTest):
    """Nothing is posted, because the receiver would act."""

    def test_check_with_a_listening_receiver_returns_no_problem(self):
        receiver = self.receiver()
        self.assertEqual("", self.driver.check())
        self.assertEqual([], receiver.received)

    def test_check_without_a_url_returns_a_problem(self):
        self.assertIn("[webhook] url must be set", self.driver.check())

    def test_check_without_a_receiver_returns_a_problem(self):
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            self.option(url=f"http://127.0.0.1:{bound.getsockname()[1]}/?token=hush")
            problem = self.driver.check()
        self.assertIn("Connection refused", problem)
        self.assertNotIn("hush", problem)

    def test_check_with_an_unknown_host_name_returns_a_problem(self):
        self.option(url="https://receiver.invalid/?token=hush")
        problem = self.driver.check()
        self.assertIn("the connection to the receiver failed", problem)
        self.assertNotIn("hush", problem)

    def test_check_with_an_invalid_url_returns_a_problem(self):
        self.option(url="http://127.0.0.1:99999/?token=hush")
        problem = self.driver.check()
        self.assertIn("the address of the receiver", problem)
        self.assertNotIn("hush", problem)

    def test_check_with_a_silent_tls_receiver_returns_a_problem(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.option(url=f"https://127.0.0.1:{server.getsockname()[1]}/", timeout=0.3)
            self.assertIn("did not respond within 0.3 s", self.driver.check())

    def test_check_connects_to_the_proxy(self):
        proxy = self.useFixture(Receiver())
        self.useFixture(fixtures.EnvironmentVariable("NO_PROXY", "localhost"))
        self.useFixture(fixtures.EnvironmentVariable("no_proxy", "localhost"))
        self.useFixture(fixtures.EnvironmentVariable("HTTPS_PROXY", proxy.url))
        self.useFixture(fixtures.EnvironmentVariable("https_proxy", proxy.url))
        self.option(url="https://receiver.invalid/")
        self.assertEqual("", self.driver.check())
