# SPDX-License-Identifier: Apache-2.0
import re
import unittest

import hypothesis
from hypothesis import strategies as st

from vmmonitor.rules import matchers
from vmmonitor.rules.document import Written
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
    """Matchers over so few words that they often meet."""
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
            (Written("1.10"), "1.10"),
            (Written("1.10"), 1.1),
            (True, True),
            (True, "true"),
            ("false", False),
            ("-1", -1),
        ):
            self.assertTrue(self.holds("=", operand, value), (operand, value))
            self.assertTrue(self.holds("in", ["other", operand], value), (operand, value))

    def test_a_boolean_is_no_number(self):
        self.assertFalse(self.holds("=", 1, True))
        self.assertFalse(self.holds("=", True, 1))

    def test_what_is_missing_equals_nothing(self):
        for value in (None, [], ["a"], {}, {"a": "b"}):
            for operator, operand in (("=", "a"), ("in", ["a", ""]), ("=~", ".*")):
                self.assertFalse(self.holds(operator, operand, value), (operator, value))
            for operator, operand in (("!=", "a"), ("not_in", ["a"]), ("!~", ".*")):
                self.assertTrue(self.holds(operator, operand, value), (operator, value))

    def test_dots_reach_into_mappings_only(self):
        deep = Matcher("attributes.a.b.c", "=", 1)
        self.assertTrue(deep.holds(event(a={"b": {"c": 1}})))
        for value in ({"b": {}}, {"b": 1}, {"b": [{"c": 1}]}, "b", None):
            self.assertFalse(deep.holds(event(a=value)))

    def test_pattern_must_match_the_whole(self):
        self.assertFalse(self.holds("=~", "vda", "/dev/vda"))
        self.assertTrue(self.holds("=~", ".*vda", "/dev/vda"))
        self.assertTrue(self.holds("=~", "a.*b", "a\nb"))
        self.assertTrue(self.holds("=~", "[0-9]+", 42))
        self.assertFalse(self.holds("!~", "[0-9]+", 42))

    def test_pattern_is_shown_the_beginning(self):
        self.assertTrue(self.holds("=~", "x{4096}", "x" * 5000))
        self.assertFalse(self.holds("=~", ".*y", "x" * 4096 + "y"))

    def test_broken_pattern(self):
        with self.assertRaisesRegex(matchers.BadPattern, "'a\\(' is not a regular expression"):
            Matcher("type", "=~", "a(")

    def test_why_not_names_test_and_value(self):
        matcher = Matcher("attributes.x", "in", ["a", "b"])
        self.assertEqual(
            "attributes.x in ['a', 'b'] fails: it is 'c'", matcher.why_not(event(x="c"))
        )
        self.assertEqual(
            "attributes.x in ['a', 'b'] fails: there is none", matcher.why_not(event())
        )


class PropertyTest(unittest.TestCase):
    @STEADY
    @hypothesis.given(JSON, SCALAR)
    def test_opposites(self, value, operand):
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
    def test_why_not_is_always_a_line(self, value, operand):
        why = Matcher("attributes.x", "=", operand).why_not(event(x=value))
        self.assertEqual(1, len(why.splitlines()))

    @STEADY
    @hypothesis.given(SCALAR)
    def test_a_value_equals_itself_and_its_text(self, value):
        for operand in (value, matchers.text(value)):
            self.assertTrue(Matcher("attributes.x", "=", operand).holds(event(x=value)))

    @STEADY
    @hypothesis.given(st.text(max_size=50), st.text(max_size=50))
    def test_escaped_pattern_is_equality(self, value, operand):
        pattern = Matcher("attributes.x", "=~", re.escape(operand))
        self.assertEqual(value == operand, pattern.holds(event(x=value)))

    @STEADY
    @hypothesis.given(st.text(max_size=30))
    def test_any_text_is_a_pattern_or_refused(self, pattern):
        try:
            Matcher("attributes.x", "=~", pattern).holds(event(x="a"))
        except matchers.BadPattern as error:
            self.assertIn("is not a regular expression", str(error))

    @STEADY
    @hypothesis.given(MATCHES, EVENTS)
    def test_match_is_any_of_all(self, match, seen):
        expected = any(all(m.holds(seen) for m in one) for one in match.alternatives)
        self.assertEqual(expected, match.holds(seen))
        self.assertEqual(expected, not match.why_not(seen))

    @STEADY
    @hypothesis.given(MATCHES, MATCHES, EVENTS)
    def test_implies_is_never_wrong(self, one, other, seen):
        if one.implies(other) and one.holds(seen):
            self.assertTrue(other.holds(seen))

    @STEADY
    @hypothesis.given(MATCHES, EVENTS)
    def test_types_leave_out_none_that_matches(self, match, seen):
        types = match.types()
        if types is not None and match.holds(seen):
            self.assertIn(seen.type, types)
