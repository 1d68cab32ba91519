# SPDX-License-Identifier: Apache-2.0
"""Test the matches of silences: matching incidents, and invalid matches."""

import dataclasses
import unittest

from vmmonitor.model import errors
from vmmonitor.model.silence import Silence, SilenceState
from vmmonitor.rules import schemas, silences
from vmmonitor.testing import builders

INSTANCE = dataclasses.replace(
    builders.incident().instance, name="test-1", project_id="b7f1", flavor="m1.small"
)
INCIDENT = builders.incident(instance=INSTANCE, priority=5, shared_cause="ceph-1")


def holds(match, incident=INCIDENT) -> bool:
    """Return whether a match means an incident."""
    return silences.build(match).holds(silences.fields_of(incident))


class TestMeaning(unittest.TestCase):
    def test_match_holds_for_the_incident(self):
        for match in (
            {},
            {"host": "compute-1"},
            {"host": {"in": ["compute-1", "compute-2"]}, "severity": "critical"},
            {"instance.uuid": builders.UUID},
            {"instance.name": {"=~": "test-.*", "!=": "test-2"}},
            {"instance.project_id": "b7f1", "instance.flavor": {"!~": "m2.*"}},
            {"type": "lifecycle.stopped", "detail": "failed"},
            {"cause": "lifecycle.stopped/failed", "policy": "restart"},
            {"priority": 5, "shared_cause": "ceph-1"},
            {"priority": "5"},
            [{"host": "compute-9"}, {"host": "compute-1"}],
        ):
            with self.subTest(match):
                self.assertTrue(holds(match))

    def test_match_fails_for_the_incident(self):
        for match in (
            {"host": "compute-7"},
            {"host": "compute-1", "detail": "crashed"},
            {"instance.name": {"=~": "test"}},
            {"priority": 4},
            [{"host": "compute-9"}, {"host": "compute-8"}],
        ):
            with self.subTest(match):
                self.assertFalse(holds(match))

    def test_cause_without_detail_has_empty_detail(self):
        incident = dataclasses.replace(INCIDENT, cause="watchdog")
        self.assertTrue(holds({"type": "watchdog", "detail": ""}, incident))

    def test_every_silence_field_can_be_matched(self):
        subject = silences.fields_of(INCIDENT)
        for field in schemas.SILENCE_FIELDS:
            with self.subTest(field):
                match = silences.build({field: {"!=": "nobody's"}})
                self.assertTrue(match.holds(subject))

    def test_match_without_tests_matches_everything(self):
        for match, everything in (
            ({}, True),
            ([{"host": "a"}, {}], True),
            ([{"host": "a"}], False),
            ({"host": "a"}, False),
        ):
            with self.subTest(match):
                self.assertEqual(everything, silences.matches_everything(silences.build(match)))


class TestRefused(unittest.TestCase):
    def test_invalid_match_is_refused_with_its_reason(self):
        for match, words in (
            ({"hots": "a"}, "match: unknown field 'hots'; did you mean 'host'?"),
            ({"attributes.path": "a"}, "match: unknown field 'attributes.path'"),
            ({"attributes.": "a"}, "match: unknown field 'attributes.'"),
            ({"source": "a"}, "match: unknown field 'source'"),
            ({"host": {"==": "a"}}, "match.host: unknown field '=='; did you mean '='?"),
            ({"host": ["a", "b"]}, "match.host: the value is a list"),
            ({"host": None}, "match.host: the value is empty"),
            ({"host": {"=~": "("}}, "'(' is not a regular expression"),
            ({"host": {}}, "match.host: must not be empty"),
            ({"host": {"in": []}}, "match.host.in: must not be empty"),
            ([], "match: must not be empty"),
            ([5], "match[0]: 5 is a number"),
            ("host=a", "match: 'host=a' is a string"),
            (None, "match: the value is empty"),
        ):
            with self.subTest(match):
                with self.assertRaises(errors.InvalidRules) as caught:
                    silences.build(match)
                self.assertIn(f"silence: {words}", str(caught.exception))


class TestState(unittest.TestCase):
    def test_silence_state_follows_the_time(self):
        made = Silence(
            silence_id="s",
            match={},
            author="ada",
            comment="kernel",
            starts_at=100,
            ends_at=200,
            created_at=50,
        )
        for now, state in (
            (99, SilenceState.PENDING),
            (100, SilenceState.ACTIVE),
            (199, SilenceState.ACTIVE),
            (200, SilenceState.EXPIRED),
        ):
            with self.subTest(now):
                self.assertEqual(state, made.state(now))
                ended = dataclasses.replace(made, expired_at=60)
                self.assertEqual(SilenceState.EXPIRED, ended.state(now))
