# SPDX-License-Identifier: Apache-2.0
"""What is done to values on their way to the database."""

import json

import hypothesis
import testtools
from hypothesis import strategies

from vmmonitor.db import column_types

TEXTS = strategies.text(strategies.characters(codec=None))
JSON = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | TEXTS,
    lambda inner: strategies.lists(inner) | strategies.dictionaries(TEXTS, inner),
    max_leaves=20,
)


class TestStorable(testtools.TestCase):
    @hypothesis.given(TEXTS)
    def test_any_text_becomes_storable_and_stays_so(self, text: str) -> None:
        stored = column_types.storable(text)
        stored.encode()
        self.assertNotIn("\x00", stored)
        self.assertEqual(stored, column_types.storable(stored))

    @hypothesis.given(
        strategies.text(strategies.characters(codec="utf-8", exclude_characters="\0"))
    )
    def test_a_storable_text_is_left_alone(self, text: str) -> None:
        self.assertEqual(text, column_types.storable(text))

    @hypothesis.given(JSON)
    def test_json_becomes_storable_string_by_string(self, value: object) -> None:
        stored = column_types.json_text(value)
        stored.encode()
        self.assertEqual(_cleaned(value), json.loads(stored))


def _cleaned(value: object) -> object:
    if isinstance(value, str):
        return column_types.storable(value)
    if isinstance(value, list):
        return [_cleaned(each) for each in value]
    if isinstance(value, dict):
        return {_cleaned(key): _cleaned(each) for key, each in value.items()}
    return value
