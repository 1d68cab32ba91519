# SPDX-License-Identifier: Apache-2.0
"""Test the client of nova against a local HTTP server with configured responses."""

import contextlib
import http.server
import json
import threading
import urllib.parse
from typing import Any

import testtools

from vmmonitor import conf as configuration
from vmmonitor.model.errors import Retriable
from vmmonitor.openstack.nova import MICROVERSION, NovaAPI
from vmmonitor.testing.builders import UUID
from vmmonitor.tests.unit.expectation.test_nova import RECORDED

SINCE = 1_795_366_800_900_000


class Nova(http.server.ThreadingHTTPServer):
    """Sends the (status, body) of ``answers`` for each path; bytes are sent unchanged."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.answers: dict[str, tuple[int, Any]] = {}
        self.asked: list[tuple[str, dict[str, str], str]] = []
        self.go_on = threading.Event()
        self.go_on.set()


class Answering(http.server.BaseHTTPRequestHandler):
    server: Nova

    def do_GET(self) -> None:
        parts = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(parts.query))
        self.server.asked.append(
            (parts.path, query, self.headers.get("OpenStack-API-Version", ""))
        )
        self.server.go_on.wait(10)
        path = f"{parts.path}#{query['marker']}" if "marker" in query else parts.path
        status, body = self.server.answers.get(path, (404, {}))
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError):
            self.wfile.write(sent)

    def log_message(self, *_: Any) -> None:
        pass


class NovaApiTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.nova = Nova()
        thread = threading.Thread(target=self.nova.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        self.addCleanup(thread.join, 10)
        self.addCleanup(self.nova.server_close)
        self.addCleanup(self.nova.shutdown)
        self.addCleanup(self.nova.go_on.set)
        self.api = self.connect(self.nova.server_address[1])

    def connect(self, port: int, **options: Any) -> NovaAPI:
        conf = configuration.new([], files=[])
        api = NovaAPI(conf)
        conf.set_override("auth_type", "none", "nova")
        conf.set_override("endpoint_override", f"http://127.0.0.1:{port}/v2.1", "nova")
        for name, value in options.items():
            conf.set_override(name, value, "nova")
        return api

    def answer(self, path: str, body: Any, status: int = 200) -> None:
        self.nova.answers[f"/v2.1{path}"] = (status, body)

    def test_missing_auth_type_raises_retriable(self):
        api = NovaAPI(configuration.new([], files=[]))
        with self.assertRaisesRegex(Retriable, r"^\[nova\] auth_type must be set"):
            api.get_server("some")
        with self.assertRaisesRegex(Retriable, r"^\[nova\] auth_type must be set"):
            api.user_id()

    def test_get_server_returns_the_server(self):
        self.answer(f"/servers/{UUID}", RECORDED["active"])
        self.assertEqual(RECORDED["active"]["server"], self.api.get_server(UUID))
        ((_, _, microversion),) = self.nova.asked
        self.assertEqual(f"compute {MICROVERSION}", microversion)

    def test_get_server_returns_none_for_a_missing_server(self):
        self.answer(f"/servers/{UUID}", RECORDED["unknown"], 404)
        self.assertIsNone(self.api.get_server(UUID))

    def test_list_actions_returns_the_newest_first(self):
        self.answer(f"/servers/{UUID}/os-instance-actions", RECORDED["actions, stopped by a user"])
        self.assertEqual("stop", self.api.list_actions(UUID)[0]["action"])

    def test_invalid_response_raises_retriable(self):
        """Also a 404 that is not nova's own: a proxy's must not make a server look deleted."""
        for status, body in (
            (500, {}),
            (503, b"<html>try later</html>"),
            (401, {"error": {}}),
            (403, {"forbidden": {}}),
            (404, {}),
            (404, {"itemNotFound": "?"}),
            (404, b"<html>not found</html>"),
            (200, b""),
            (200, b"\xff\xfe"),
            (200, []),
            (200, {}),
            (200, {"server": []}),
        ):
            self.answer(f"/servers/{UUID}", body, status)
            error = self.assertRaises(Retriable, self.api.get_server, UUID)
            self.assertLess(len(str(error)), 250)

    def test_list_actions_of_a_missing_server_raises_retriable(self):
        self.answer(f"/servers/{UUID}/os-instance-actions", RECORDED["unknown"], 404)
        self.assertRaises(Retriable, self.api.list_actions, UUID)

    def test_refused_connection_raises_retriable(self):
        other = Nova()
        port = other.server_address[1]
        other.server_close()
        self.assertRaises(Retriable, self.connect(port).get_server, UUID)

    def test_timeout_raises_retriable(self):
        self.nova.go_on.clear()
        api = self.connect(self.nova.server_address[1], timeout=1)
        self.assertRaises(Retriable, api.get_server, UUID)

    def test_missing_configuration_raises_retriable(self):
        self.assertRaises(Retriable, NovaAPI(configuration.new([], files=[])).get_server, UUID)

    def test_list_servers_reads_all_pages(self):
        first, last = RECORDED["changes, first page"], RECORDED["changes, last page"]
        self.answer("/servers/detail", first)
        self.answer(f"/servers/detail#{first['servers'][-1]['id']}", last)
        self.answer(f"/servers/detail#{last['servers'][-1]['id']}", {"servers": []})
        names = [one["name"] for one in self.api.list_servers(SINCE, 2)]
        self.assertEqual([one["name"] for page in (first, last) for one in page["servers"]], names)
        self.assertEqual(3, len(self.nova.asked))
        query = {"all_tenants": "1", "limit": "2", "changes-since": "2026-11-22T17:00:00Z"}
        self.assertEqual(query, self.nova.asked[0][1])

    def test_list_servers_without_since_has_no_filter(self):
        self.answer("/servers/detail", {"servers": []})
        self.assertEqual([], list(self.api.list_servers(None, 500)))
        self.assertNotIn("changes-since", self.nova.asked[0][1])

    def test_list_servers_ends_at_a_repeated_page(self):
        page = RECORDED["changes, first page"]
        self.answer("/servers/detail", page)
        self.answer(f"/servers/detail#{page['servers'][-1]['id']}", page)
        self.assertEqual(4, len(list(self.api.list_servers(None, 2))))

    def test_list_servers_raises_retriable_if_a_page_fails(self):
        page = RECORDED["changes, first page"]
        self.answer("/servers/detail", page)
        self.answer(f"/servers/detail#{page['servers'][-1]['id']}", {}, 500)
        self.assertRaises(Retriable, lambda: list(self.api.list_servers(None, 2)))

    def test_concurrent_requests_share_a_session(self):
        self.answer(f"/servers/{UUID}", RECORDED["active"])
        found: list[Any] = []
        threads = [
            threading.Thread(target=lambda: found.append(self.api.get_server(UUID)))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        self.assertEqual([RECORDED["active"]["server"]] * 8, found)
