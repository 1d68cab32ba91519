# SPDX-License-Identifier: Apache-2.0
"""The API of vmmonitor-standalone, on its unix socket and over TCP."""

import http.client
import json
import os
import pwd
import socket
import stat

import fixtures

from vmmonitor.cmd import standalone
from vmmonitor.model.errors import VmmonitorError
from vmmonitor.tests.fixtures import sample
from vmmonitor.tests.functional.client import base


class TestStandaloneApi(base.CommandTest):
    def setUp(self) -> None:
        super().setUp()
        self.api.conf.set_override("bind_port", 0, group="api")
        self.path = self.api.conf.api.socket_path
        self.service = self.serve()

    def serve(self) -> standalone.ApiService:
        service = standalone.ApiService(self.api.conf)
        self.addCleanup(service.stop)
        service.start()
        return service

    def ask(self, headers: dict[str, str]) -> tuple[int, dict]:
        """Return the status and the body of a response over TCP."""
        peer = http.client.HTTPConnection(*self.service.address, timeout=60)
        self.addCleanup(peer.close)
        peer.request("GET", "/v1/incidents", headers=headers)
        response = peer.getresponse()
        return response.status, json.load(response)

    def test_command_through_socket_needs_no_token(self):
        self.useFixture(fixtures.EnvironmentVariable("VMMONITOR_TOKEN_FILE", "/nowhere"))
        code, out, err = self.run_command("incident", "list", endpoint=f"unix://{self.path}")
        self.assertEqual((0, ""), (code, err))
        self.assertIn(sample.CRASH.incident_id, out)

    def test_author_of_change_through_socket_is_user_of_process(self):
        words = ["silence", "create", "--host", "a", "--for", "1h", "--comment", "kernel"]
        words += ["--author", "somebody", "-f", "json"]
        code, out, err = self.run_command(*words, endpoint=f"unix://{self.path}")
        self.assertEqual((0, ""), (code, err))
        self.assertEqual(pwd.getpwuid(os.geteuid()).pw_name, json.loads(out)["author"])

    def test_only_user_and_group_can_open_socket(self):
        mode = os.stat(self.path).st_mode
        self.assertTrue(stat.S_ISSOCK(mode))
        self.assertEqual(0o660, mode & 0o777)

    def test_request_over_tcp_needs_token(self):
        status, body = self.ask({})
        self.assertEqual(401, status)
        self.assertIn(self.api.conf.api.token_file, body["errors"][0]["detail"])
        self.assertEqual(200, self.ask({"X-Auth-Token": self.api.token})[0])

    def test_command_without_token_reports_where_it_is(self):
        self.useFixture(fixtures.EnvironmentVariable("VMMONITOR_TOKEN_FILE", "/nowhere"))
        url = "http://{}:{}".format(*self.service.address)
        code, _, err = self.run_command("incident", "list", endpoint=url)
        self.assertEqual(1, code)
        self.assertIn(self.api.conf.api.token_file, " ".join(err.split()))

    def test_request_to_rebound_name_is_refused_with_token(self):
        host = f"rebound.example.org:{self.service.address[1]}"
        self.assertEqual(403, self.ask({"X-Auth-Token": self.api.token, "Host": host})[0])

    def test_socket_of_killed_process_is_replaced(self):
        self.service.stop()
        self.assertFalse(os.path.exists(self.path))
        with socket.socket(socket.AF_UNIX) as left_behind:
            left_behind.bind(self.path)
        self.serve()
        self.assertEqual(
            0, self.run_command("incident", "list", endpoint=f"unix://{self.path}")[0]
        )

    def test_socket_that_is_missing_is_an_error_with_its_path(self):
        endpoint = f"unix://{self.path}.missing"
        code, _, err = self.run_command("incident", "list", endpoint=endpoint)
        self.assertEqual(1, code)
        self.assertIn(f"cannot reach the vmmonitor API at {endpoint}", err)

    def test_second_process_on_same_port_leaves_socket_to_first(self):
        self.api.conf.set_override("bind_port", self.service.address[1], group="api")
        self.assertRaises(VmmonitorError, standalone.ApiService, self.api.conf)
        self.assertEqual(
            0, self.run_command("incident", "list", endpoint=f"unix://{self.path}")[0]
        )

    def test_too_long_path_is_an_error_with_its_path(self):
        path = f"{self.path}{'x' * 108}"
        self.api.conf.set_override("socket_path", path, group="api")
        error = self.assertRaises(VmmonitorError, standalone.ApiService, self.api.conf)
        self.assertIn(path, str(error))

    def test_user_without_name_is_shown_by_number(self):
        self.assertEqual("uid 4000000000", standalone.user_name(4_000_000_000))
