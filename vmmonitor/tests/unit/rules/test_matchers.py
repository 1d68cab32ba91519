# SPDX-License-Identifier: Apache-2.0
import re
import unittest

import hypothesis
from hypothesis import strategies as st

from vmmonitor.rules import matchers
from vmmonitor.rules.document import WrittenFloat
from vmmonitor.rules.matchers import Match, Matcher
from vmmonitor.tests.unit.rules.base import event

STEADY = hypothesis.settings(max_examples=300, deadline=None, derandomize=True, database=None)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
SCALAR = st.booleans() | st.integers() | st.floats() | st.text()
WORD = st.sampled_from(["a", "b", "c"])


def small_matchers():
    """Return matchers with so few distinct words that two of them often share one."""
    field = st.sampled_from(["type", "detail", "attributes.x"])
    one = st.tuples(field, st.sampled_from(["=", "!=", "=~", "!~"]), WORD)
    many = st.tuples(field, st.sampled_from(["in", "not_in"]), st.lists(WORD, min_size=1))
    return (one | many).map(lambda parts: Matcher(*parts))


MATCHES = st.lists(st.lists(small_matchers(), max_size=3), min_size=1, max_size=3).map(Match)
EVENTS = st.builds(
    lambda type, detail, x: event(type, detail, x=x), WORD, WORD, st.none() | WORD | st.integers()
)


class MatcherTest(unittest.TestCase):
    def holds(self, operator, operand, value):
        return Matcher("attributes.x", operator, operand).holds(event(x=value))

    def test_every_field_can_be_read(self):
        seen = event(host="h", instance={"name": "web", "flavor": "m1"}, disk={"path": "/d"})
        values = {
            "source": "libvirt",
            "type": "lifecycle.stopped",
            "detail": "failed",
            "host": "h",
        }
        values |= {"instance.name": "web", "instance.flavor": "m1", "instance.user_id": ""}
        values |= {"instance.uuid": seen.instance.uuid, "attributes.disk.path": "/d"}
        for field, value in values.items():
            self.assertTrue(Matcher(field, "=", value).holds(seen), field)
        for field in matchers.FIELDS:
            self.assertFalse(Matcher(field, "=", "other").holds(seen), field)

    def test_numbers_and_booleans_equal_their_text(self):
        for operand, value in (
            (5, 5),
            (5, "5"),
            ("5", 5),
            (5, 5.0),
            (WrittenFloat("1.10"), "1.10"),
            (WrittenFloat("1.10"), 1.1),
            (True, True),
            (True, "true"),
            ("false", False),
            ("-1", -1),
        ):
            self.assertTrue(self.holds("=", operand, value), (operand, value))
            self.assertTrue(self.holds("in", ["other", operand], value), (operand, value))

    def test_boolean_does_not_equal_number(self):
        self.assertFalse(self.holds("=", 1, True))
        self.assertFalse(self.holds("=", True, 1))

    def test_missing_value_equals_nothing(self):
        for value in (None, [], ["a"], {}, {"a": "b"}):
            for operator, operand in (("=", "a"), ("in", ["a", ""]), ("=~", ".*")):
                self.assertFalse(self.holds(operator, operand, value), (operator, value))
            for operator, operand in (("!=", "a"), ("not_in", ["a"]), ("!~", ".*")):
                self.assertTrue(self.holds(operator, operand, value), (operator, value))

    def test_dots_in_a_field_read_mappings_only(self):
        deep = Matcher("attributes.a.b.c", "=", 1)
        self.assertTrue(deep.holds(event(a={"b": {"c": 1}})))
        for value in ({"b": {}}, {"b": 1}, {"b": [{"c": 1}]}, "b", None):
            self.assertFalse(deep.holds(event(a=value)))

    def test_pattern_must_match_the_whole_text(self):
        self.assertFalse(self.holds("=~", "vda", "/dev/vda"))
        self.assertTrue(self.holds("=~", ".*vda", "/dev/vda"))
        self.assertTrue(self.holds("=~", "a.*b", "a\nb"))
        self.assertTrue(self.holds("=~", "[0-9]+", 42))
        self.assertFalse(self.holds("!~", "[0-9]+", 42))

    def test_pattern_reads_only_the_beginning_of_a_long_text(self):
        self.assertTrue(self.holds("=~", "x{4096}", "x" * 5000))
        self.assertFalse(self.holds("=~", ".*y", "x" * 4096 + "y"))

    def test_invalid_pattern_is_refused(self):
        with self.assertRaisesRegex(matchers.InvalidPattern, "'a\\(' is not a regular expression"):
            Matcher("type", "=~", "a(")

    def test_why_not_contains_test_and_value(self):
        matcher = Matcher("attributes.x", "in", ["a", "b"])
        self.assertEqual(
            "attributes.x in ['a', 'b'] fails: it is 'c'", matcher.why_not(event(x="c"))
        )
        self.assertEqual(
            "attributes.x in ['a', 'b'] fails: it is not set", matcher.why_not(event())
        )


class PropertyTest(unittest.TestCase):
    @STEADY
    @hypothesis.given(JSON, SCALAR)
    def test_negated_operator_holds_when_operator_fails(self, value, operand):
        seen = event(x=value)
        for one, other, given in (
            ("=", "!=", operand),
            ("in", "not_in", [operand, "a"]),
            ("=~", "!~", "[a-z]*"),
        ):
            self.assertNotEqual(
                Matcher("attributes.x", one, given).holds(seen),
                Matcher("attributes.x", other, given).holds(seen),
            )

    @STEADY
    @hypothesis.given(JSON, SCALAR)
    def test_why_not_is_one_line_for_any_value(self, value, operand):
        why = Matcher("attributes.x", "=", operand).why_not(event(x=value))
        self.assertEqual(1, len(why.splitlines()))

    @STEADY
    @hypothesis.given(SCALAR)
    def test_value_equals_itself_and_its_text(self, value):
        for operand in (value, matchers.text(value)):
            self.assertTrue(Matcher("attributes.x", "=", operand).holds(event(x=value)))

    @STEADY
    @hypothesis.given(st.text(max_size=50), st.text(max_size=50))
    def test_escaped_pattern_equals_its_text_only(self, value, operand):
        pattern = Matcher("attributes.x", "=~", re.escape(operand))
        self.assertEqual(value == operand, pattern.holds(event(x=value)))

    @STEADY
    @hypothesis.given(st.text(max_size=30))
    def test_any_text_is_a_pattern_or_is_refused(self, pattern):
        try:
            Matcher("attributes.x", "=~", pattern).holds(event(x="a"))
        except matchers.InvalidPattern as error:
            self.assertIn("is not a regular expression", str(error))

    @STEADY
    @hypothesis.given(MATCHES, EVENTS)
    def test_match_holds_if_all_tests_of_one_alternative_hold(self, match, seen):
        expected = any(all(m.holds(seen) for m in one) for one in match.alternatives)
        self.assertEqual(expected, match.holds(seen))
        self.assertEqual(expected, not match.why_not(seen))

    @STEADY
    @hypothesis.given(MATCHES, MATCHES, EVENTS)
    def test_implied_match_holds_for_every_event(self, one, other, seen):
        if one.implies(other) and one.holds(seen):
            self.assertTrue(other.holds(seen))

    @STEADY
    @hypothesis.given(MATCHES, EVENTS)
    def test_types_contain_the_type_of_each_matching_event(self, match, seen):
        types = match.types()
        if types is not None and match.holds(seen):
            self.assertIn(seen.type, types)
