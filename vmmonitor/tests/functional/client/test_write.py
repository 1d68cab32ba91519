# SPDX-License-Identifier: Apache-2.0
"""Write requests from the client through a real HTTP server to a handler."""

import socket

import fixtures
import webob
from osc_lib import exceptions

from vmmonitor.api import body, routes
from vmmonitor.client import shell
from vmmonitor.model import errors
from vmmonitor.model.errors import IllegalTransition
from vmmonitor.tests.functional.client import base

SCHEMA = {"type": "object", "properties": {"raise": {"type": "string"}}}
RAISED = {
    "conflict": errors.Conflict("another client was faster"),
    "illegal": IllegalTransition(state="resolved", move="hold"),
    "gone": errors.NotFound(thing=1),
    "away": errors.Retriable("The database cannot be reached"),
}


def _echo(request):
    given = body.read(request, SCHEMA)
    if "raise" in given:
        raise RAISED[given["raise"]]
    return {"thing": {"given": given, "author": request.author, **request.arguments}}


def _made(request):
    return body.created(request, "/v1/things/1", _echo(request))


def _accepted(request):
    return body.accepted(_echo(request))


def _gone(request):
    return webob.Response(status=204)


THINGS = {
    "/v1/things": {"POST": _made},
    "/v1/things/{ident}": {"PUT": _echo, "DELETE": _gone},
    "/v1/things/{ident}/requests": {"POST": _accepted, "DELETE": _echo},
}


class TestWrite(base.CommandTest):
    def setUp(self) -> None:
        self.useFixture(fixtures.MockPatchObject(routes, "ROUTES", {**routes.ROUTES, **THINGS}))
        super().setUp()
        self.client = shell.Clients(self.served.url).vmmonitor

    def test_post_creates_item(self):
        found = self.client.post("things", body={"colour": "grün"}, author="Jürgen")
        self.assertEqual({"given": {"colour": "grün"}, "author": "Jürgen"}, found)

    def test_request_without_author_is_unnamed(self):
        self.assertEqual("unnamed", self.client.post("things", body={})["author"])

    def test_put_sets_item(self):
        found = self.client.put("things", "a b&%", body={}, author="ada")
        self.assertEqual({"given": {}, "author": "ada", "ident": "a b&%"}, found)

    def test_post_to_item_is_accepted(self):
        found = self.client.post("things", "1", "requests", body={"x": 1}, author="ada")
        self.assertEqual({"given": {"x": 1}, "author": "ada", "ident": "1"}, found)

    def test_delete_ends_item(self):
        self.assertEqual({}, self.client.delete("things", "1"))
        self.assertEqual(
            "ada", self.client.delete("things", "1", "requests", author="ada")["author"]
        )

    def test_errors_are_reported(self):
        for given, status, words in (
            ({"raise": "conflict"}, 409, "another client was faster"),
            ({"raise": "illegal"}, 409, "does not have this transition"),
            ({"raise": "gone"}, 404, "Not found"),
            ({"raise": "away"}, 503, "The database cannot be reached"),
            ({"raise": 1}, 400, "raise: "),
            ({"long": "x" * body.LIMIT}, 413, "octets"),
        ):
            call = self.client.post
            error = self.assertRaises(exceptions.CommandError, call, "things", body=given)
            self.assertIn(f"(HTTP status {status}, request req-", str(error))
            self.assertIn(words, str(error))

    def request(self, **more):
        environ = {"REMOTE_ADDR": "127.0.0.1", "SERVER_PORT": "15869"}
        headers = {"X-Auth-Token": self.api.token}
        request = webob.Request.blank("/v1/things", environ, headers=headers, **more)
        request.host = "127.0.0.1:15869"
        return request

    def test_responses_have_status_and_headers(self):
        request = self.request(method="POST")
        answer = request.get_response(self.api.application)
        self.assertEqual(
            (201, "application/json", "http://127.0.0.1:15869/v1/things/1"),
            (answer.status_int, answer.content_type, answer.location),
        )
        request.path_info = "/v1/things/1/requests"
        self.assertEqual(202, request.get_response(self.api.application).status_int)
        request.method = "PUT"
        answer = request.get_response(self.api.application)
        self.assertEqual((405, "POST, DELETE"), (answer.status_int, answer.headers["Allow"]))

    def test_form_of_web_page_is_rejected(self):
        request = self.request(POST={"a": "b"})
        self.assertEqual(415, request.get_response(self.api.application).status_int)

    def test_server_continues_after_oversized_body(self):
        with socket.create_connection(("127.0.0.1", self.served.port), timeout=60) as peer:
            head = (
                f"POST /v1/things HTTP/1.1\r\nHost: 127.0.0.1:{self.served.port}\r\n"
                f"X-Auth-Token: {self.api.token}\r\nContent-Length: {10**12}\r\n\r\n"
            )
            peer.sendall(head.encode())
            self.assertIn(b" 413 ", peer.makefile("rb").readline())
        self.assertEqual("unnamed", self.client.post("things", body={})["author"])
