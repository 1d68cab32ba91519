# SPDX-License-Identifier: Apache-2.0
"""Bodies: what is understood, and how the rest is told."""

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
    """Return what a request's body says."""
    request = ApiRequest.blank(url, environ, method="POST", body=octets)
    if content_type:
        request.content_type = content_type
    return body.read(request, SCHEMA)


class TestUnderstood(unittest.TestCase):
    def test_an_object(self):
        for content_type in (JSON, "Application/JSON", f"{JSON}; charset=UTF-8"):
            with self.subTest(content_type):
                octets = '{"comment": "für später"}'.encode()
                self.assertEqual({"comment": "für später"}, read(octets, content_type))

    def test_nothing_is_an_empty_object(self):
        request = ApiRequest.blank("/v1/things", method="POST")
        self.assertEqual({}, body.read(request, {"type": "object"}))

    def test_the_longest(self):
        octets = json.dumps({"comment": "x"}).encode().ljust(body.LIMIT)
        self.assertEqual({"comment": "x"}, read(octets))


class TestRefused(unittest.TestCase):
    def assert_told(self, status: int, code: str, *words: str, call) -> None:
        with self.assertRaises(errors.ApiError) as caught:
            call()
        error = caught.exception
        self.assertEqual((status, code), (error.status, error.code))
        for word in words:
            self.assertIn(word, error.detail)

    def test_bad_json(self):
        for octets, word in (
            (b"{", "no JSON"),
            (b"\xff", "no JSON"),
            (b'{"comment": NaN}', "NaN is no number"),
            (b'{"comment": ' + b"[" * 60000, "no JSON"),
            (b'{"comment": 1e999}', "1e999 is no number"),
            (b"[]", "no JSON object"),
            (b"null", "no JSON object"),
        ):
            with self.subTest(octets[:20]):
                self.assert_told(400, errors.BAD_BODY, word, call=lambda o=octets: read(o))

    def test_bad_content(self):
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
                self.assert_told(400, errors.BAD_BODY, *words, call=lambda o=octets: read(o))

    def test_another_type(self):
        for content_type in ("text/plain", "application/x-www-form-urlencoded"):
            with self.subTest(content_type):
                self.assert_told(
                    *(415, errors.BAD_TYPE, content_type, JSON),
                    call=lambda c=content_type: read(b'{"comment": "x"}', c),
                )

    def test_too_long(self):
        octets = json.dumps({"comment": "x"}).encode().ljust(body.LIMIT + 1)
        self.assert_told(413, errors.TOO_LONG, call=lambda: read(octets))

    def test_too_long_without_saying_how_long(self):
        environ = {"wsgi.input_terminated": True, "wsgi.input": io.BytesIO(b" " * 10_000_000)}
        request = ApiRequest.blank("/v1/things", environ, method="POST")
        request.environ.pop("CONTENT_LENGTH", None)
        self.assert_told(413, errors.TOO_LONG, call=lambda: body.read(request, SCHEMA))

    def test_one_that_breaks_off(self):
        request = ApiRequest.blank("/v1/things", method="POST")
        request.environ |= {"wsgi.input": io.BytesIO(b"{}"), "CONTENT_LENGTH": "20"}
        self.assert_told(400, errors.BAD_BODY, call=lambda: body.read(request, SCHEMA))

    def test_a_query_string(self):
        self.assert_told(
            *(400, errors.BAD_PARAMETER, "POST"),
            call=lambda: read(b'{"comment": "x"}', url="/v1/things?limit=1"),
        )

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=200))
    def test_anything_is_understood_or_refused(self, octets):
        try:
            found = read(octets)
        except errors.ApiError as error:
            self.assertLess(error.status, 500)
        else:
            self.assertIsInstance(found["comment"], str)
