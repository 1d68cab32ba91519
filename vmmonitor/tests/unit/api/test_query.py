# SPDX-License-Identifier: Apache-2.0
"""Query strings that are accepted, and errors for the others."""

import unittest
import urllib.parse

from hypothesis import given, settings
from hypothesis import strategies as st
from oslo_config import cfg

from vmmonitor import conf as configuration
from vmmonitor.api import errors, query
from vmmonitor.api.http_request import ApiRequest
from vmmonitor.api.schemas import agent, event, incident, recovery, silence
from vmmonitor.conf import api as options

UUID = "6F1A0C52-8f7e-4f0e-9a55-0d4b0e6d1b01"


def read(text: str, schema=event.INDEX, sort: str = "occurred_at:desc"):
    """Return the page of a query string."""
    request = ApiRequest.blank(f"/v1/things?{text}")
    request.conf = cfg.ConfigOpts()
    configuration.register_group(request.conf, options)
    request.conf([])
    return query.read(request, schema, sort)


class TestAccepted(unittest.TestCase):
    def test_empty_query_has_defaults(self):
        page = read("")
        self.assertEqual((1000, None, {}), (page.limit, page.marker, page.filters))
        self.assertEqual([("occurred_at", "desc")], page.sort)
        self.assertEqual((None, None), (page.since, page.until))

    def test_all_parameters_are_read(self):
        page = read(
            "host=a&host=b&severity=info&limit=7&marker=m&sort=stored:asc,occurred_at"
            "&since=2026-11-22T13:15:39.000123Z&until=2026-11-22T13:15:40Z"
        )
        self.assertEqual({"host": ["a", "b"], "severity": ["info"]}, page.filters)
        self.assertEqual((7, "m"), (page.limit, page.marker))
        self.assertEqual([("id", "asc"), ("occurred_at", "asc")], page.sort)
        self.assertEqual(1_795_353_339_000_123, page.since)
        self.assertEqual(1_795_353_340_000_000, page.until)

    def test_limit_is_at_most_max_limit(self):
        self.assertEqual(1000, read("limit=999999999").limit)

    def test_uuid_is_lower_case(self):
        self.assertEqual({"instance_uuid": [UUID.lower()]}, read(f"instance_uuid={UUID}").filters)

    def test_host_may_have_any_letters(self):
        self.assertEqual({"host": ["k\u00f6ln 1"]}, read("host=k%C3%B6ln+1").filters)


class TestRejected(unittest.TestCase):
    def assert_rejected(self, text: str, *words: str, schema=event.INDEX) -> None:
        with self.subTest(text), self.assertRaises(errors.ApiError) as caught:
            read(text, schema)
        self.assertEqual(400, caught.exception.status)
        self.assertEqual(errors.BAD_PARAMETER, caught.exception.code)
        for word in words:
            self.assertIn(word, caught.exception.detail)

    def test_unknown_parameter_is_reported_with_allowed_ones(self):
        for schema in (event.INDEX, incident.INDEX, recovery.INDEX, silence.INDEX, agent.INDEX):
            self.assert_rejected("colour=red", "colour", *schema["properties"], schema=schema)

    def test_invalid_value_is_reported(self):
        for text, *words in (
            ("limit=0", "limit", "'0'"),
            ("limit=-1", "limit", "'-1'"),
            ("limit=many", "limit", "'many'"),
            ("limit=1&limit=2", "limit", "2 times"),
            ("since=yesterday", "since", "'yesterday'", "ISO 8601"),
            ("sort=colour", "sort", "'colour'", "occurred_at", "stored"),
            ("sort=occurred_at:up", "sort", ":asc or :desc"),
            ("sort=", "sort"),
            ("severity=bad", "severity", "info, warning, critical"),
            ("instance_uuid=web-1", "instance_uuid", "'web-1'", "UUID"),
            ("host=", "host"),
            ("host=a%00b", "host"),
            ("host=" + "x" * 256, "host"),
        ):
            self.assert_rejected(text, *words)

    def test_invalid_state_is_reported_with_states_of_noun(self):
        self.assert_rejected("state=running", "pending", "resolved", schema=incident.INDEX)
        self.assert_rejected("state=pending", "requested", schema=recovery.INDEX)
        self.assert_rejected("state=gone", "late", "blind", schema=agent.INDEX)

    @settings(deadline=None)
    @given(
        st.sampled_from([event.INDEX, incident.INDEX, recovery.INDEX, silence.INDEX, agent.INDEX]),
        st.dictionaries(
            st.sampled_from(sorted(event.INDEX["properties"])) | st.text(max_size=5),
            st.text(max_size=20),
            max_size=3,
        ),
    )
    def test_any_query_is_accepted_or_rejected(self, schema, given_):
        try:
            text = urllib.parse.urlencode(given_)
        except UnicodeEncodeError:
            return
        try:
            page = read(text, schema)
        except errors.ApiError as error:
            self.assertEqual(400, error.status)
        else:
            self.assertGreaterEqual(page.limit, 1)
