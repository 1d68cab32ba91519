# SPDX-License-Identifier: Apache-2.0
"""The webhook driver against real HTTP and HTTPS servers."""

import datetime
import json
import pathlib
import socket
import ssl
import textwrap
import threading
import time
from typing import Any

import fixtures
import jsonschema
import testtools
import trustme
from cloudevents.core.bindings import http as cloudevents_http
from oslo_config import cfg

import vmmonitor
from vmmonitor import conf as configuration
from vmmonitor.conf import webhook as options
from vmmonitor.drivers.webhook import WebhookDriver
from vmmonitor.model.instance import Instance
from vmmonitor.model.recovery import Outcome, RecoveryRequest
from vmmonitor.testing import builders
from vmmonitor.testing.agents import FakeAgents
from vmmonitor.tests.fixtures.receiver import Receiver

SECRET = "the value of [webhook] secret"
PAGE = pathlib.Path(vmmonitor.__file__).parents[1] / "doc/source/admin/drivers.rst"

#: Attributes of an event that the CloudEvents 1.0 specification requires.
CLOUD_EVENT = {
    "type": "object",
    "required": ["id", "source", "specversion", "type"],
    "properties": {
        "id": {"type": "string", "minLength": 1},
        "source": {"type": "string", "minLength": 1, "format": "uri-reference"},
        "specversion": {"const": "1.0"},
        "type": {"type": "string", "minLength": 1},
        "datacontenttype": {"type": "string", "minLength": 1},
        "dataschema": {"type": "string", "minLength": 1, "format": "uri"},
        "subject": {"type": "string", "minLength": 1},
        "time": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"},
        "data": {},
    },
    # Names of extension attributes.
    "patternProperties": {"^[a-z0-9]+$": {}},
    "additionalProperties": False,
}


def receiver_example() -> dict[str, Any]:
    """Run the example receiver of the documentation and return its names."""
    _, _, after = PAGE.read_text().partition(".. code-block:: python\n\n")
    lines = []
    for line in after.splitlines():
        if line and not line.startswith("   "):
            break
        lines.append(line)
    names: dict[str, Any] = {}
    exec(compile(textwrap.dedent("\n".join(lines)), str(PAGE), "exec"), names)
    return names


class WebhookTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.EnvironmentVariable("NO_PROXY", "127.0.0.1"))
        self.conf = cfg.ConfigOpts()
        configuration.register_group(self.conf, options)
        self.driver = WebhookDriver(self.conf, FakeAgents())

    def option(self, **values: Any) -> None:
        for name, value in values.items():
            self.conf.set_override(name, value, group="webhook")

    def receiver(self, **how: Any) -> Receiver:
        """Start a receiver and configure its URL."""
        receiver = self.useFixture(Receiver(**how))
        self.option(url=receiver.url)
        return receiver

    def recover(self, request: RecoveryRequest | None = None) -> Outcome:
        return self.driver.recover(request or builders.request())

    def timed(self, timeout: float) -> tuple[Outcome, float]:
        began = time.monotonic()
        outcome = self.recover(builders.request(timeout=timeout))
        return outcome, time.monotonic() - began

    def assertFails(self, outcome: Outcome, word: str, retry: bool) -> None:
        self.assertEqual(("fail", retry), (outcome.move, outcome.retry), outcome.message)
        self.assertIn(word, outcome.message)


class TestMessage(WebhookTest):
    def posted(self, request: RecoveryRequest | None = None) -> dict[str, Any]:
        receiver = self.receiver()
        self.assertEqual("wait", self.recover(request).move)
        (received,) = receiver.received
        return json.loads(received.body)

    def test_request_body_is_a_cloud_event(self):
        request = builders.request()
        event = self.posted(request)
        jsonschema.validate(event, CLOUD_EVENT)
        data = event.pop("data")
        self.assertEqual(
            {
                "specversion": "1.0",
                "id": f"{request.incident.incident_id}/1",
                "attempt": 1,
                "source": "/vmmonitor/hosts/compute-1",
                "type": "org.openstack.vmmonitor.incident.recover",
                "subject": builders.UUID,
                "time": "2026-11-22T13:20:00.123456Z",
                "datacontenttype": "application/json",
            },
            event,
        )
        self.assertEqual({"incident", "events", "attempt", "policy"}, set(data))
        self.assertEqual((1, "restart"), (data["attempt"], data["policy"]))
        self.assertEqual("lifecycle.stopped/failed", data["incident"]["cause"])
        self.assertEqual("web", data["incident"]["instance"]["name"])
        self.assertEqual([builders.AT], [event["occurred_at"] for event in data["events"]])

    def test_cloudevents_sdk_reads_the_body(self):
        receiver = self.receiver()
        self.recover()
        (received,) = receiver.received
        event = cloudevents_http.from_http_event(
            cloudevents_http.HTTPMessage(received.headers, received.body)
        )
        self.assertEqual(f"{builders.incident().incident_id}/1", event.get_id())
        self.assertEqual(1, event.get_attributes()["attempt"])
        self.assertEqual(builders.UUID, event.get_subject())
        self.assertEqual(datetime.timedelta(0), event.get_time().utcoffset())
        self.assertEqual(1, event.get_data()["attempt"])

    def test_names_in_any_script_are_sent_unchanged(self):
        name = "веб-сервер 東京 🔥 \ud800"
        instance = Instance(uuid=builders.UUID, name=name)
        request = builders.request(incident=builders.incident(instance=instance, host="höst/1 %"))
        event = self.posted(request)
        jsonschema.validate(event, CLOUD_EVENT)
        self.assertEqual(name, event["data"]["incident"]["instance"]["name"])
        self.assertEqual("/vmmonitor/hosts/h%C3%B6st%2F1%20%25", event["source"])

    def test_takeover_posts_the_same_body(self):
        receiver = self.receiver()
        self.recover()
        self.recover(builders.request(taken_over=True))
        first, second = receiver.received
        self.assertEqual(first.body, second.body)

    def test_concurrent_recoveries_all_succeed(self):
        receiver = self.receiver()
        outcomes: list[Outcome] = []
        threads = [
            threading.Thread(target=lambda: outcomes.append(self.recover())) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(["wait"] * 8, [outcome.move for outcome in outcomes])
        self.assertEqual(8, len(receiver.received))


class TestSignature(WebhookTest):
    def posted(self) -> Any:
        receiver = self.receiver()
        self.recover()
        (received,) = receiver.received
        return received

    def test_documented_receiver_accepts_an_event_once(self):
        self.option(secret=SECRET)
        received = self.posted()
        accept = receiver_example()["accept"]
        signature = received.headers["X-Vmmonitor-Signature"]
        self.assertEqual(builders.UUID, accept(received.body, signature)["subject"])
        self.assertIsNone(accept(received.body, signature))

    def test_documented_receiver_refuses_a_wrong_secret(self):
        self.option(secret="guessed")
        received = self.posted()
        accept = receiver_example()["accept"]
        signature = received.headers["X-Vmmonitor-Signature"]
        self.assertRaises(PermissionError, accept, received.body, signature)
        self.assertRaises(PermissionError, accept, received.body, "")

    def test_documented_receiver_refuses_a_changed_body(self):
        self.option(secret=SECRET)
        received = self.posted()
        changed = received.body.replace(b"compute-1", b"compute-2")
        accept = receiver_example()["accept"]
        signature = received.headers["X-Vmmonitor-Signature"]
        self.assertRaises(PermissionError, accept, changed, signature)

    def test_request_without_a_secret_has_no_signature(self):
        self.assertNotIn("X-Vmmonitor-Signature", self.posted().headers)


class TestAnswers(WebhookTest):
    def answered(self, code: int, text: str = "") -> Outcome:
        receiver = self.receiver()
        receiver.code, receiver.text = code, text
        outcome = self.recover()
        self.assertEqual(1, len(receiver.received))
        return outcome

    def test_status_2xx_waits_for_the_instance(self):
        for code in (200, 202, 204):
            expected = Outcome(move="wait", message=f"the receiver returned HTTP status {code}")
            self.assertEqual(expected, self.answered(code))

    def test_status_5xx_fails_with_retry(self):
        for code in (500, 503):
            self.assertFails(self.answered(code, "busy"), f"status {code}: busy", retry=True)

    def test_status_4xx_fails_without_retry(self):
        for code in (400, 404, 429):
            self.assertFails(self.answered(code, "no"), f"status {code}: no", retry=False)

    def test_redirect_is_not_followed(self):
        for code in (302, 307):
            self.assertFails(self.answered(code), "redirects are not followed", retry=False)

    def test_response_text_is_cut_and_printable(self):
        message = self.answered(400, "no\x1b[31m\n\x00way " + "é" * 1000).message
        self.assertStartsWith(message, "the receiver returned HTTP status 400: no [31m way éé")
        self.assertEqual(len("the receiver returned HTTP status 400: ") + 200, len(message))
        self.assertTrue(message.isprintable())

    def assertStartsWith(self, text: str, start: str) -> None:
        self.assertEqual(start, text[: len(start)])


class TestSlowReceivers(WebhookTest):
    """Each call ends at its own timeout, independent of the receiver."""

    def drips(self, head: bytes, piece: bytes) -> Receiver:
        """Send ``head``, then ``piece`` repeatedly."""
        receiver = self.receiver()

        def answer(request: Any) -> None:
            request.wfile.write(head)
            while not receiver.over.wait(0.02):
                request.wfile.write(piece)

        receiver.answer = answer
        return receiver

    def check_timed_out(self, timeout: float) -> None:
        outcome, took = self.timed(timeout)
        self.assertFails(outcome, "did not respond within 0.3 s", retry=True)
        self.assertFalse(outcome.answered)
        self.assertLess(took, 1.3)

    def test_receiver_without_response_fails_with_retry(self):
        receiver = self.receiver()
        receiver.answer = lambda request: receiver.over.wait(30)
        self.check_timed_out(0.3)

    def test_shorter_timeout_applies(self):
        receiver = self.receiver()
        receiver.answer = lambda request: receiver.over.wait(30)
        self.option(timeout=0.3)
        self.check_timed_out(60)

    def test_slow_response_header_fails_with_retry(self):
        self.drips(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"z")
        self.check_timed_out(0.3)

    def test_slow_response_body_keeps_the_status(self):
        for code, move in ((200, "wait"), (404, "fail")):
            self.drips(b"HTTP/1.1 %d Hm\r\n\r\n" % code, b"z")
            outcome, took = self.timed(5)
            self.assertEqual((move, False), (outcome.move, outcome.retry))
            self.assertLess(took, 2.5)

    def test_missing_response_body_keeps_the_status(self):
        self.drips(b"HTTP/1.1 404 Hm\r\nContent-Length: 9\r\n\r\n", b"")
        outcome, took = self.timed(5)
        self.assertFails(outcome, "HTTP status 404", retry=False)
        self.assertLess(took, 2.5)

    def test_huge_response_body_is_not_read(self):
        receiver = self.receiver()
        written: list[int] = []
        hung_up = threading.Event()

        def answer(request: Any) -> None:
            request.wfile.write(b"HTTP/1.1 400 Hm\r\nContent-Length: %d\r\n\r\n" % 2**40)
            try:
                while not receiver.over.is_set():
                    written.append(request.wfile.write(b"z" * 65536))
            except OSError:
                hung_up.set()

        receiver.answer = answer
        outcome, took = self.timed(5)
        self.assertFails(outcome, "zzz", retry=False)
        self.assertLess(took, 2.5)
        self.assertTrue(hung_up.wait(10))
        # The kernel's buffers accept a limited amount.
        self.assertLess(sum(written), 32 * 2**20)


class TestUnreachable(WebhookTest):
    def test_missing_url_fails_without_retry(self):
        self.assertFails(self.recover(), "[webhook] url must be set", retry=False)

    def test_refused_connection_does_not_show_the_url(self):
        with socket.socket() as bound:
            # Bound but not listening, so that no other process can take the port.
            bound.bind(("127.0.0.1", 0))
            self.option(url=f"http://127.0.0.1:{bound.getsockname()[1]}/?token=hush")
            outcome = self.recover()
        self.assertFails(outcome, "Connection refused", retry=True)
        self.assertNotIn("hush", outcome.message)

    def test_closed_connection_fails_with_retry(self):
        receiver = self.receiver()
        receiver.answer = lambda request: request.connection.close()
        self.assertFails(self.recover(), "the connection to the receiver failed", retry=True)

    def test_invalid_url_fails_without_retry(self):
        self.option(url="http://*.example.org/?token=hush")
        outcome = self.recover()
        self.assertFails(outcome, "the request to the receiver failed", retry=False)
        self.assertNotIn("hush", outcome.message)


class TestTls(WebhookTest):
    def setUp(self):
        super().setUp()
        self.directory = self.useFixture(fixtures.TempDir()).path
        self.authority = trustme.CA()

    def https(self, name: str = "127.0.0.1") -> Receiver:
        """Start a receiver whose certificate is for ``name``."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(name).configure_cert(context)
        return self.receiver(tls=context)

    def trust(self, authority: trustme.CA) -> None:
        path = f"{self.directory}/ca.pem"
        authority.cert_pem.write_to_path(path)
        self.option(ca_file=path)

    def assertRefused(self, receiver: Receiver, word: str) -> None:
        self.assertFails(self.recover(), word, retry=False)
        self.assertIn(word, self.driver.check())
        self.assertEqual([], receiver.received)

    def test_certificate_of_a_trusted_authority_is_accepted(self):
        receiver = self.https()
        self.trust(self.authority)
        self.assertEqual("", self.driver.check())
        self.assertEqual("wait", self.recover().move)
        self.assertEqual(1, len(receiver.received))

    def test_certificate_of_an_untrusted_authority_is_refused(self):
        receiver = self.https()
        self.trust(trustme.CA())
        self.assertRefused(receiver, "certificate is not trusted")

    def test_system_authorities_apply_by_default(self):
        receiver = self.https()
        self.assertRefused(receiver, "certificate is not trusted")
        path = f"{self.directory}/system.pem"
        self.authority.cert_pem.write_to_path(path)
        self.useFixture(fixtures.EnvironmentVariable("SSL_CERT_FILE", path))
        self.assertEqual("wait", self.recover().move)

    def test_certificate_of_another_host_is_refused(self):
        receiver = self.https("other.example.org")
        self.trust(self.authority)
        self.assertRefused(receiver, "certificate is not trusted")

    def test_unreadable_authorities_fail_without_retry(self):
        receiver = self.https()
        self.option(ca_file=f"{self.directory}/missing.pem")
        self.assertRefused(receiver, "[webhook] ca_file")
        broken = pathlib.Path(self.directory, "broken.pem")
        broken.write_text("hello")
        self.option(ca_file=str(broken))
        self.assertRefused(receiver, "[webhook] ca_file")
