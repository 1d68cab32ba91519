# SPDX-License-Identifier: Apache-2.0
"""What a silence means: which incidents, and which words of an operator mean nothing."""

import dataclasses
import unittest

from vmmonitor.model import errors, silence
from vmmonitor.model.silence import Silence
from vmmonitor.rules import schemas, silences
from vmmonitor.tests.fixtures import nouns

INSTANCE = dataclasses.replace(
    nouns.incident().instance, name="test-1", project_id="b7f1", flavor="m1.small"
)
INCIDENT = nouns.incident(instance=INSTANCE, priority=5, shared_cause="ceph-1")


def holds(match, incident=INCIDENT) -> bool:
    """Return whether a match means an incident."""
    return silences.build(match).holds(silences.subject(incident))


class TestMeaning(unittest.TestCase):
    def test_what_is_meant(self):
        for match in (
            {},
            {"host": "compute-1"},
            {"host": {"in": ["compute-1", "compute-2"]}, "severity": "critical"},
            {"instance.uuid": nouns.UUID},
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

    def test_what_is_not(self):
        for match in (
            {"host": "compute-7"},
            {"host": "compute-1", "detail": "crashed"},
            {"instance.name": {"=~": "test"}},
            {"priority": 4},
            [{"host": "compute-9"}, {"host": "compute-8"}],
        ):
            with self.subTest(match):
                self.assertFalse(holds(match))

    def test_a_cause_without_a_detail(self):
        incident = dataclasses.replace(INCIDENT, cause="watchdog")
        self.assertTrue(holds({"type": "watchdog", "detail": ""}, incident))

    def test_every_field_is_there(self):
        subject = silences.subject(INCIDENT)
        for field in schemas.SILENCE_FIELDS:
            with self.subTest(field):
                match = silences.build({field: {"!=": "nobody's"}})
                self.assertTrue(match.holds(subject))

    def test_everything(self):
        for match, everything in (
            ({}, True),
            ([{"host": "a"}, {}], True),
            ([{"host": "a"}], False),
            ({"host": "a"}, False),
        ):
            with self.subTest(match):
                self.assertEqual(everything, silences.means_everything(silences.build(match)))


class TestRefused(unittest.TestCase):
    def test_in_words(self):
        for match, words in (
            ({"hots": "a"}, "unknown field 'hots'; did you mean 'host'?"),
            ({"attributes.path": "a"}, "unknown field 'attributes.path'"),
            ({"attributes.": "a"}, "unknown field 'attributes.'"),
            ({"source": "a"}, "unknown field 'source'"),
            ({"host": {"==": "a"}}, "unknown field '=='; did you mean '='?"),
            ({"host": ["a", "b"]}, "match.host: it is a list"),
            ({"host": None}, "match.host: None is empty"),
            ({"host": {"=~": "("}}, "'(' is not a regular expression"),
            ({"host": {}}, "match.host: must not be empty"),
            ({"host": {"in": []}}, "match.host.in: must not be empty"),
            ([], "match: must not be empty"),
            ([5], "match[0]: 5 is a number"),
            ("host=a", "match: 'host=a' is a string"),
            (None, "match: None is empty"),
        ):
            with self.subTest(match):
                with self.assertRaises(errors.InvalidRules) as caught:
                    silences.build(match)
                self.assertIn(f"silence: {words}", str(caught.exception))


class TestState(unittest.TestCase):
    def test_at_a_time(self):
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
            (99, silence.PENDING),
            (100, silence.ACTIVE),
            (199, silence.ACTIVE),
            (200, silence.EXPIRED),
        ):
            with self.subTest(now):
                self.assertEqual(state, made.state(now))
                ended = dataclasses.replace(made, expired_at=60)
                self.assertEqual(silence.EXPIRED, ended.state(now))
