# SPDX-License-Identifier: Apache-2.0
"""A rule that means only what happens often, with any clock and on any host."""

import dataclasses
import json
import os
import threading
import unittest.mock

import hypothesis
from hypothesis import strategies as st

from vmmonitor.model import errors
from vmmonitor.rules import filters, rate
from vmmonitor.rules.rate import SECOND, Rate
from vmmonitor.tests.unit.rules import base
from vmmonitor.tests.unit.rules.test_matchers import JSON, STEADY

HOUR = 3600
RULES = """\
version: 1
rules:
- name: often
  match: {{type: io_error}}
  rate: {{count: {count}, seconds: {seconds}, per: [instance.uuid, attributes.device]}}
  action: incident
- name: once
  match: {{type: io_error}}
  action: record
"""


def at(seconds, device="a", **facts):
    """Return an event at a time, in seconds after some other."""
    seen = base.event("io_error", "report", device=device, **facts)
    when = seen.occurred_at + round(seconds * SECOND)
    return dataclasses.replace(seen, occurred_at=when)


class RateTest(base.RulesTest):
    def reached(self, rated, *moments):
        return [rated.reached(at(moment)) for moment in moments]

    def test_the_nth_in_time_and_those_after_it(self):
        self.assertEqual(
            [False, False, True, True, False, True],
            self.reached(Rate(3, 10), 0, 1, 2, 10.5, 20, 20.4),
        )

    def test_the_window_ends(self):
        self.assertEqual([False, False], self.reached(Rate(2, 10), 0, 10))
        self.assertEqual([False, True], self.reached(Rate(2, 10), 0, 9.999))

    def test_keys_are_counted_apart(self):
        rated = Rate(2, 10, ["attributes.device", "host"])
        self.assertFalse(rated.reached(at(0, "a")))
        self.assertFalse(rated.reached(at(0, "b")))
        self.assertFalse(rated.reached(at(0, "a", host="compute-2")))
        self.assertTrue(rated.reached(at(1, "a")))

    def test_what_is_missing_or_no_text_is_one_key(self):
        rated = Rate(3, 10, ["attributes.device"])
        found = [rated.reached(at(0, device)) for device in (None, ["x"], {"x": 1})]
        self.assertEqual([False, False, True], found)

    def test_long_values_are_told_apart_and_kept_short(self):
        rated = Rate(2, 10, ["attributes.device"])
        long = "x" * 2**20
        self.assertFalse(rated.reached(at(0, long + "1")))
        self.assertFalse(rated.reached(at(0, long + "2")))
        self.assertTrue(rated.reached(at(1, long + "1")))
        self.assertEqual({64}, {len(key[0]) for key in rated._moments})

    # -- clocks --------------------------------------------------------------------------------
    def test_a_clock_that_is_put_back_starts_anew(self):
        self.assertEqual(
            [False, False, False, False, True],
            self.reached(Rate(3, 60), HOUR, HOUR + 1, 0, 1, 2),
        )

    def test_a_clock_that_jumps_back_and_forth_reaches_nothing(self):
        jumping = [number % 2 * HOUR for number in range(20)]
        self.assertEqual({False}, set(self.reached(Rate(2, 60), *jumping)))

    def test_a_little_disorder_costs_nothing(self):
        self.assertEqual([False, False, True], self.reached(Rate(3, 60), 1.0, 0.5, 0.9))

    # -- bounds --------------------------------------------------------------------------------
    def test_the_least_recently_used_key_goes_first(self):
        self.patch_bound("MAX_KEYS", 3)
        rated = Rate(2, 10)
        for uuid in "abcad":
            rated.reached(self.of(uuid))
        self.assertEqual(["c", "a", "d"], [key[0] for key in rated._moments])
        self.assertFalse(rated.reached(self.of("b")))

    def patch_bound(self, name, value):
        patch = unittest.mock.patch.object(rate, name, value)
        patch.start()
        self.addCleanup(patch.stop)

    def of(self, uuid):
        seen = at(0)
        return dataclasses.replace(seen, instance=dataclasses.replace(seen.instance, uuid=uuid))

    def test_what_is_kept_is_bounded_whatever_comes(self):
        for count in (2, 1000):
            rated = Rate(count, 86400)
            for number in range(rate.MAX_KEYS + 50):
                rated.reached(self.of(str(number)))
            for _ in range(2000):
                rated.reached(self.of("same"))
            self.assertLessEqual(len(rated._moments), rate.MAX_KEYS)
            self.assertLessEqual(len(rated._moments) * count, rate.MAX_MOMENTS)
            self.assertEqual(count, len(rated._moments["same",]))

    @STEADY
    @hypothesis.given(
        st.integers(2, 4),
        st.integers(1, 30),
        st.lists(st.tuples(st.integers(-90, 90), JSON), max_size=30),
    )
    def test_it_agrees_with_the_plain_rule(self, count, seconds, told):
        """Whatever is in the events, and wherever the clock is."""
        rated = Rate(count, seconds, ["attributes.device"])
        kept = {}
        for moment, device in told:
            event = at(moment, device)
            key = rated._key(event)
            past = [one for one in kept.get(key, []) if moment - seconds < one <= moment + 1]
            kept[key] = [*past, moment][-count:]
            expected = len(kept[key]) >= count
            self.assertEqual(expected, not rated.why_not(event))
            self.assertEqual(expected, rated.reached(event))


class RuleTest(base.RulesTest):
    def load(self, count=3, seconds=60):
        return filters.load(self.file(RULES.format(count=count, seconds=seconds)))

    def rules(self, rules, *moments):
        return [rules.decide(at(moment)).rule for moment in moments]

    @STEADY
    @hypothesis.given(
        st.dictionaries(st.sampled_from(["count", "seconds", "per", "x"]), JSON, max_size=4)
        | st.fixed_dictionaries(
            {"count": st.integers() | st.floats(), "seconds": st.integers() | st.floats()},
            optional={"per": st.lists(st.sampled_from(["host", "attributes.device"]) | JSON)},
        ),
        st.lists(JSON, max_size=5),
    )
    def test_anything_for_a_rate_is_refused_or_works(self, given, devices):
        text = RULES.format(count=2, seconds=9).replace(
            "{count: 2, seconds: 9, per: [instance.uuid, attributes.device]}", json.dumps(given)
        )
        path = base.write(text)
        try:
            rules = filters.load(path)
        except errors.InvalidRules:
            return
        finally:
            os.remove(path)
        for number, device in enumerate(devices):
            self.assertIn(rules.decide(at(number, device)).rule, ("once", "often"))

    def test_the_rules_after_it_are_tried_until_it_is_reached(self):
        self.assertEqual(["once", "once", "often"], self.rules(self.load(), 0, 1, 2))

    def test_what_another_rule_took_is_not_counted(self):
        text = RULES.format(count=2, seconds=60)
        first = "- {name: first, match: {detail: mild}, action: ignore}\n"
        rules = filters.load(self.file(text.replace("rules:\n", "rules:\n" + first)))
        mild = dataclasses.replace(at(0), detail="mild")
        found = [rules.decide(one).rule for one in (mild, mild, at(1), at(2))]
        self.assertEqual(["first", "first", "once", "often"], found)

    def test_explain_tells_how_far_it_is_and_counts_nothing(self):
        rules = self.load()
        self.rules(rules, 0)
        for _ in range(5):
            trials = rules.explain(at(1))
            self.assertEqual(
                "often: no, 2 of 3 within 60 s per instance.uuid, attributes.device",
                str(trials[0]),
            )
        self.assertEqual(["once", "often"], self.rules(rules, 1, 2))
        self.assertEqual(["often: matches"], [str(one) for one in rules.explain(at(3))])

    def test_a_reload_goes_on_counting_where_nothing_changed(self):
        before = self.load()
        self.rules(before, 0, 1)
        after = self.load()
        after.inherit(before)
        self.assertEqual(["often"], self.rules(after, 2))

    def test_a_reload_starts_anew_where_the_rate_changed(self):
        for changed in ({"count": 2}, {"seconds": 61}):
            before = self.load()
            self.rules(before, 0, 1)
            after = self.load(**changed)
            after.inherit(before)
            self.assertEqual(["once"], self.rules(after, 2), changed)

    def test_fractions_as_they_are_written(self):
        rules = self.load(count="2.0", seconds="1.50")
        self.assertEqual(["once", "once", "often"], self.rules(rules, 0, 1.5, 2))

    def test_who_looks_meanwhile_disturbs_nothing(self):
        rules = self.load(count=1000)
        done = threading.Event()
        errors = []

        def look():
            try:
                while not done.is_set():
                    rules.explain(at(0))
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=look, name="looks", daemon=True)
        thread.start()
        found = self.rules(rules, *[number / 1000 for number in range(2000)])
        done.set()
        thread.join(10)
        self.assertEqual([], errors)
        self.assertEqual(["once"] * 999 + ["often"] * 1001, found)
