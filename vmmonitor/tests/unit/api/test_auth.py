# SPDX-License-Identifier: Apache-2.0
"""Access without authentication."""

import unittest

import webob

from vmmonitor.api import auth
from vmmonitor.api.http_request import ApiRequest
from vmmonitor.conf import api as options


class TestIsLoopback(unittest.TestCase):
    def test_loopback_address_is_loopback(self):
        for address in ("127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"):
            with self.subTest(address):
                self.assertTrue(auth.is_loopback(address))

    def test_other_address_is_not_loopback(self):
        for address in ("10.0.0.1", "0.0.0.0", "::", "::ffff:10.0.0.1", "localhost", "", None):
            with self.subTest(address):
                self.assertFalse(auth.is_loopback(address))


class TestNoAuth(unittest.TestCase):
    def get_status(self, **environ) -> int:
        request = webob.Request.blank("/v1", environ)
        return request.get_response(auth.NoAuth(webob.Response(), None)).status_int

    def test_request_from_this_host_is_served(self):
        self.assertEqual(200, self.get_status(REMOTE_ADDR="127.0.0.1"))

    def test_request_from_other_host_is_refused(self):
        self.assertEqual(403, self.get_status(REMOTE_ADDR="192.0.2.1"))

    def test_request_through_unix_socket_is_refused(self):
        self.assertEqual(403, self.get_status())
        self.assertEqual(403, self.get_status(REMOTE_ADDR=""))

    def test_request_of_proxy_is_refused(self):
        for name in ("HTTP_FORWARDED", "HTTP_X_FORWARDED_FOR", "HTTP_X_REAL_IP"):
            with self.subTest(name):
                self.assertEqual(
                    403, self.get_status(REMOTE_ADDR="127.0.0.1", **{name: "192.0.2.1"})
                )

    def test_change_by_web_page_is_refused(self):
        page = {"REMOTE_ADDR": "127.0.0.1", "HTTP_ORIGIN": "http://127.0.0.1:15869"}
        for method in ("POST", "PUT", "DELETE"):
            with self.subTest(method):
                self.assertEqual(403, self.get_status(REQUEST_METHOD=method, **page))
                self.assertEqual(
                    200, self.get_status(REQUEST_METHOD=method, REMOTE_ADDR="127.0.0.1")
                )
        self.assertEqual(200, self.get_status(**page))

    def test_author_is_taken_from_header(self):
        for header, author in (
            (None, "unnamed"),
            (" ", "unnamed"),
            ("ada", "ada"),
            ("J\u00fcrgen".encode().decode("latin-1"), "J\u00fcrgen"),
        ):
            with self.subTest(header):
                request = ApiRequest.blank("/v1", {"REMOTE_ADDR": "127.0.0.1"})
                if header:
                    request.headers[auth.AUTHOR] = header
                request.get_response(auth.NoAuth(webob.Response(), None))
                self.assertEqual(author, request.author)

    def test_invalid_author_is_rejected(self):
        for header in ("\xff", "a\tb", "x" * 256):
            with self.subTest(header):
                self.assertEqual(
                    400, self.get_status(REMOTE_ADDR="127.0.0.1", HTTP_X_USER_NAME=header)
                )

    def test_each_strategy_has_a_middleware(self):
        choices = options.OPTS[0].type.choices
        self.assertEqual(set(choices), set(auth.STRATEGIES))
