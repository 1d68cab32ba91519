# SPDX-License-Identifier: Apache-2.0
"""Request bodies that are accepted, and errors for the others."""

import io
import json
import unittest

from hypothesis import given, settings
from hypothesis import strategies as st

from vmmonitor.api import body, errors
from vmmonitor.api.http_request import ApiRequest

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["comment"],
    "properties": {
        "comment": {"type": "string", "minLength": 1, "description": "a text"},
        "inner": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"count": {"type": "integer"}},
        },
        "until": {"type": "string", "format": "time", "description": "a time in ISO 8601"},
    },
}
JSON = "application/json"


def read(octets: bytes, content_type: str = JSON, url: str = "/v1/things", **environ):
    """Return the object in a request body."""
    request = ApiRequest.blank(url, environ, method="POST", body=octets)
    if content_type:
        request.content_type = content_type
    return body.read(request, SCHEMA)


class TestAccepted(unittest.TestCase):
    def test_json_object_is_accepted(self):
        for content_type in (JSON, "Application/JSON", f"{JSON}; charset=UTF-8"):
            with self.subTest(content_type):
                octets = '{"comment": "für später"}'.encode()
                self.assertEqual({"comment": "für später"}, read(octets, content_type))

    def test_empty_body_is_empty_object(self):
        request = ApiRequest.blank("/v1/things", method="POST")
        self.assertEqual({}, body.read(request, {"type": "object"}))

    def test_body_of_maximum_size_is_accepted(self):
        octets = json.dumps({"comment": "x"}).encode().ljust(body.LIMIT)
        self.assertEqual({"comment": "x"}, read(octets))


class TestRejected(unittest.TestCase):
    def assert_rejected(self, status: int, code: str, *words: str, call) -> None:
        with self.assertRaises(errors.ApiError) as caught:
            call()
        error = caught.exception
        self.assertEqual((status, code), (error.status, error.code))
        for word in words:
            self.assertIn(word, error.detail)

    def test_invalid_json_is_rejected(self):
        for octets, word in (
            (b"{", "not valid JSON"),
            (b"\xff", "not valid JSON"),
            (b'{"comment": NaN}', "NaN is not a JSON number"),
            (b'{"comment": ' + b"[" * 60000, "not valid JSON"),
            (b'{"comment": 1e999}', "1e999 is not a JSON number"),
            (b"[]", "not a JSON object"),
            (b"null", "not a JSON object"),
        ):
            with self.subTest(octets[:20]):
                self.assert_rejected(400, errors.BAD_BODY, word, call=lambda o=octets: read(o))

    def test_invalid_content_is_rejected(self):
        for value, words in (
            ({}, ["comment missing"]),
            ({"comment": "x", "colour": 1}, ["unknown: 'colour'", "comment, inner, until"]),
            ({"comment": 5}, ["comment: 5 is not a text"]),
            ({"comment": ""}, ["comment: '' is not a text"]),
            ({"comment": "x", "until": "soon"}, ["until: 'soon' is not a time"]),
            ({"comment": "x", "inner": {"x": 1}}, ["inner: unknown: 'x'; allowed are count"]),
            ({"comment": "x", "inner": {"count": "y"}}, ["inner.count: ", "integer"]),
        ):
            with self.subTest(value):
                octets = json.dumps(value).encode()
                self.assert_rejected(400, errors.BAD_BODY, *words, call=lambda o=octets: read(o))

    def test_other_content_type_is_rejected(self):
        for content_type in ("text/plain", "application/x-www-form-urlencoded"):
            with self.subTest(content_type):
                self.assert_rejected(
                    415,
                    errors.BAD_TYPE,
                    content_type,
                    JSON,
                    call=lambda c=content_type: read(b'{"comment": "x"}', c),
                )

    def test_oversized_body_is_rejected(self):
        octets = json.dumps({"comment": "x"}).encode().ljust(body.LIMIT + 1)
        self.assert_rejected(413, errors.TOO_LONG, call=lambda: read(octets))

    def test_oversized_chunked_body_is_rejected(self):
        environ = {"wsgi.input_terminated": True, "wsgi.input": io.BytesIO(b" " * 10_000_000)}
        request = ApiRequest.blank("/v1/things", environ, method="POST")
        request.environ.pop("CONTENT_LENGTH", None)
        self.assert_rejected(413, errors.TOO_LONG, call=lambda: body.read(request, SCHEMA))

    def test_truncated_body_is_rejected(self):
        request = ApiRequest.blank("/v1/things", method="POST")
        request.environ |= {"wsgi.input": io.BytesIO(b"{}"), "CONTENT_LENGTH": "20"}
        self.assert_rejected(400, errors.BAD_BODY, call=lambda: body.read(request, SCHEMA))

    def test_query_string_is_rejected(self):
        self.assert_rejected(
            400,
            errors.BAD_PARAMETER,
            "POST",
            call=lambda: read(b'{"comment": "x"}', url="/v1/things?limit=1"),
        )

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=200))
    def test_any_octets_are_accepted_or_rejected(self, octets):
        try:
            found = read(octets)
        except errors.ApiError as error:
            self.assertLess(error.status, 500)
        else:
            self.assertIsInstance(found["comment"], str)
