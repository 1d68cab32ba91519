# SPDX-License-Identifier: Apache-2.0
"""Access without keystone."""

import os
import tempfile
import unittest

import webob
from oslo_config import cfg

from vmmonitor.api import auth, loopback, token_file
from vmmonitor.api.http_request import ApiRequest
from vmmonitor.conf import api as options
from vmmonitor.model.errors import VmmonitorError

PORT = "15869"


class TestIsLoopback(unittest.TestCase):
    def test_loopback_address_is_loopback(self):
        for address in ("127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"):
            with self.subTest(address):
                self.assertTrue(loopback.is_loopback(address))

    def test_other_address_is_not_loopback(self):
        for address in ("10.0.0.1", "0.0.0.0", "::", "::ffff:10.0.0.1", "localhost", "", None):
            with self.subTest(address):
                self.assertFalse(loopback.is_loopback(address))


class NoAuthCase(unittest.TestCase):
    def setUp(self):
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = os.path.join(directory.name, "api.token")
        self.conf = cfg.ConfigOpts()
        self.conf.register_opts(options.OPTS, group=options.GROUP)
        self.conf.set_override("token_file", self.path, "api")
        self.middleware = auth.NoAuth(webob.Response(), self.conf)

    def send(self, **environ) -> ApiRequest:
        """Send a request of a program on this host that has the token; return the request.

        :param environ: changes of the environment; None removes a variable.
        """
        known = {
            "REMOTE_ADDR": "127.0.0.1",
            "SERVER_PORT": PORT,
            "HTTP_HOST": f"127.0.0.1:{PORT}",
            "HTTP_X_AUTH_TOKEN": token_file.load(self.path),
        }
        request = ApiRequest.blank("/v1")
        request.environ.update(known | environ)
        for name in [name for name, value in request.environ.items() if value is None]:
            del request.environ[name]
        self.response = request.get_response(self.middleware)
        return request

    def get_status(self, **environ) -> int:
        self.send(**environ)
        return self.response.status_int


class TestNoAuth(NoAuthCase):
    def test_request_from_this_host_is_served(self):
        self.assertEqual(200, self.get_status())

    def test_request_from_other_host_is_refused(self):
        self.assertEqual(403, self.get_status(REMOTE_ADDR="192.0.2.1"))

    def test_request_through_socket_of_other_server_is_refused(self):
        self.assertEqual(403, self.get_status(REMOTE_ADDR=None))
        self.assertEqual(403, self.get_status(REMOTE_ADDR=""))

    def test_request_through_socket_is_served_without_token(self):
        socket = {"REMOTE_ADDR": "", "SERVER_PORT": "", "HTTP_X_AUTH_TOKEN": None}
        request = self.send(**socket, **{auth.NoAuth.PEER: "ada", "HTTP_X_USER_NAME": "root"})
        self.assertEqual((200, "ada"), (self.response.status_int, request.author))
        self.assertEqual(403, self.get_status(**socket, HTTP_VMMONITOR_PEER="ada"))
        forwarded = {auth.NoAuth.PEER: "www-data", "HTTP_VIA": "1.1 proxy"}
        self.assertEqual(403, self.get_status(**socket, **forwarded))

    def test_request_without_token_is_unauthorized(self):
        for token in (None, "", "x", "\xfc", token_file.load(self.path) + "x"):
            with self.subTest(token):
                self.assertEqual(401, self.get_status(HTTP_X_AUTH_TOKEN=token))
                self.assertIn(self.path, self.response.json["errors"][0]["detail"])
                self.assertEqual("vmmonitor", self.response.headers["WWW-Authenticate"])

    def test_request_of_proxy_is_refused(self):
        for name in (
            *("FORWARDED", "VIA", "X_REAL_IP", "TRUE_CLIENT_IP", "CF_CONNECTING_IP"),
            *("X_CLIENT_IP", "X_CLUSTER_CLIENT_IP", "X_ORIGINAL_FORWARDED_FOR"),
            *("X_FORWARDED_FOR", "X_FORWARDED_HOST", "X_FORWARDED_PROTO", "X_FORWARDED_PORT"),
            *("X_FORWARDED_PREFIX", "X_FORWARDED_NEW"),
        ):
            with self.subTest(name):
                self.assertEqual(403, self.get_status(**{f"HTTP_{name}": "192.0.2.1"}))

    def test_request_to_rebound_name_is_refused(self):
        for host in (
            *(f"rebound.example.org:{PORT}", f"localhost.example.org:{PORT}", f"10.0.2.2:{PORT}"),
            *("127.0.0.1:80", "127.0.0.1", "localhost", "[::1]", f"[::1]x:{PORT}", "", None),
        ):
            with self.subTest(host):
                self.assertEqual(403, self.get_status(HTTP_HOST=host))
                self.assertIn("host of the URL", self.response.json["errors"][0]["detail"])

    def test_request_to_loopback_name_is_served(self):
        for host in (f"localhost:{PORT}", f"LocalHost:{PORT}", f"[::1]:{PORT}"):
            with self.subTest(host):
                self.assertEqual(200, self.get_status(HTTP_HOST=host))
        self.assertEqual(200, self.get_status(HTTP_HOST="localhost", SERVER_PORT="80"))

    def test_request_of_other_web_page_is_refused(self):
        for header in (
            {"HTTP_ORIGIN": "http://rebound.example.org"},
            {"HTTP_ORIGIN": "http://127.0.0.1:80"},
            {"HTTP_ORIGIN": f"https://127.0.0.1:{PORT}"},
            {"HTTP_ORIGIN": "null"},
            {"HTTP_SEC_FETCH_SITE": "cross-site"},
            {"HTTP_SEC_FETCH_SITE": "same-site"},
        ):
            for method in ("GET", "POST"):
                with self.subTest(header, method=method):
                    self.assertEqual(403, self.get_status(REQUEST_METHOD=method, **header))

    def test_request_of_own_web_page_is_served(self):
        page = {"HTTP_ORIGIN": f"http://127.0.0.1:{PORT}", "HTTP_SEC_FETCH_SITE": "same-origin"}
        self.assertEqual(200, self.get_status(REQUEST_METHOD="POST", **page))
        self.assertEqual(200, self.get_status(HTTP_SEC_FETCH_SITE="none"))

    def test_author_is_taken_from_header(self):
        for header, author in (
            (None, "unnamed"),
            (" ", "unnamed"),
            ("ada", "ada"),
            ("J\u00fcrgen".encode().decode("latin-1"), "J\u00fcrgen"),
        ):
            with self.subTest(header):
                self.assertEqual(author, self.send(HTTP_X_USER_NAME=header).author)

    def test_invalid_author_is_rejected(self):
        for header in ("\xff", "a\tb", "x" * 256):
            with self.subTest(header):
                self.assertEqual(400, self.get_status(HTTP_X_USER_NAME=header))

    def test_each_strategy_has_a_middleware(self):
        choices = options.OPTS[0].type.choices
        self.assertEqual(set(choices), set(auth.STRATEGIES))


class TestTokenFile(NoAuthCase):
    def test_load_missing_file_creates_it_for_its_owner(self):
        path = os.path.join(os.path.dirname(self.path), "new", "api.token")
        token = token_file.load(path)
        self.assertEqual(0o600, os.stat(path).st_mode & 0o777)
        self.assertGreaterEqual(len(token), 32)
        self.assertEqual(token, token_file.load(path))
        self.assertEqual(["api.token"], os.listdir(os.path.dirname(path)))

    def test_load_file_that_others_can_read_is_refused(self):
        os.chmod(self.path, 0o640)
        self.assertRaisesRegex(VmmonitorError, "mode 640", token_file.load, self.path)

    def test_load_file_without_token_is_refused(self):
        for content in (b"", b"short\n", b"two words of a token\n", b"\xff" * 32, b"x" * 300):
            with self.subTest(content[:32]):
                with open(self.path, "wb") as file:
                    file.write(content)
                self.assertRaisesRegex(VmmonitorError, "token_file", token_file.load, self.path)

    def test_load_from_missing_disk_is_refused(self):
        self.assertRaisesRegex(
            VmmonitorError, "token_file", token_file.load, f"{self.path}/api.token"
        )
