# SPDX-License-Identifier: Apache-2.0
"""Test rules with a rate, also with a clock that jumps."""

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

    def test_rate_is_reached_by_the_nth_event_and_later_ones(self):
        self.assertEqual(
            [False, False, True, True, False, True],
            self.reached(Rate(3, 10), 0, 1, 2, 10.5, 20, 20.4),
        )

    def test_event_at_the_end_of_the_period_does_not_count(self):
        self.assertEqual([False, False], self.reached(Rate(2, 10), 0, 10))
        self.assertEqual([False, True], self.reached(Rate(2, 10), 0, 9.999))

    def test_keys_are_counted_separately(self):
        rated = Rate(2, 10, ["attributes.device", "host"])
        self.assertFalse(rated.reached(at(0, "a")))
        self.assertFalse(rated.reached(at(0, "b")))
        self.assertFalse(rated.reached(at(0, "a", host="compute-2")))
        self.assertTrue(rated.reached(at(1, "a")))

    def test_values_without_text_share_one_key(self):
        rated = Rate(3, 10, ["attributes.device"])
        found = [rated.reached(at(0, device)) for device in (None, ["x"], {"x": 1})]
        self.assertEqual([False, False, True], found)

    def test_long_values_are_counted_separately_and_stored_as_hashes(self):
        rated = Rate(2, 10, ["attributes.device"])
        long = "x" * 2**20
        self.assertFalse(rated.reached(at(0, long + "1")))
        self.assertFalse(rated.reached(at(0, long + "2")))
        self.assertTrue(rated.reached(at(1, long + "1")))
        self.assertEqual({64}, {len(key[0]) for key in rated._times})

    # -- clocks --------------------------------------------------------------------------------
    def test_clock_step_back_resets_the_count(self):
        self.assertEqual(
            [False, False, False, False, True],
            self.reached(Rate(3, 60), HOUR, HOUR + 1, 0, 1, 2),
        )

    def test_jumping_clock_does_not_reach_the_rate(self):
        jumping = [number % 2 * HOUR for number in range(20)]
        self.assertEqual({False}, set(self.reached(Rate(2, 60), *jumping)))

    def test_events_slightly_out_of_order_are_counted(self):
        self.assertEqual([False, False, True], self.reached(Rate(3, 60), 1.0, 0.5, 0.9))

    # -- bounds --------------------------------------------------------------------------------
    def test_least_recently_used_key_is_dropped_first(self):
        self.patch_bound("MAX_KEYS", 3)
        rated = Rate(2, 10)
        for uuid in "abcad":
            rated.reached(self.of(uuid))
        self.assertEqual(["c", "a", "d"], [key[0] for key in rated._times])
        self.assertFalse(rated.reached(self.of("b")))

    def patch_bound(self, name, value):
        patch = unittest.mock.patch.object(rate, name, value)
        patch.start()
        self.addCleanup(patch.stop)

    def of(self, uuid):
        seen = at(0)
        return dataclasses.replace(seen, instance=dataclasses.replace(seen.instance, uuid=uuid))

    def test_stored_keys_and_times_are_bounded(self):
        for count in (2, 1000):
            rated = Rate(count, 86400)
            for number in range(rate.MAX_KEYS + 50):
                rated.reached(self.of(str(number)))
            for _ in range(2000):
                rated.reached(self.of("same"))
            self.assertLessEqual(len(rated._times), rate.MAX_KEYS)
            self.assertLessEqual(len(rated._times) * count, rate.MAX_TIMES)
            self.assertEqual(count, len(rated._times["same",]))

    @STEADY
    @hypothesis.given(
        st.integers(2, 4),
        st.integers(1, 30),
        st.lists(st.tuples(st.integers(-90, 90), JSON), max_size=30),
    )
    def test_rate_equals_a_plain_count_of_the_period(self, count, seconds, told):
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
    def test_any_rate_is_refused_or_works(self, given, devices):
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

    def test_later_rules_decide_until_the_rate_is_reached(self):
        self.assertEqual(["once", "once", "often"], self.rules(self.load(), 0, 1, 2))

    def test_event_decided_by_an_earlier_rule_is_not_counted(self):
        text = RULES.format(count=2, seconds=60)
        first = "- {name: first, match: {detail: mild}, action: ignore}\n"
        rules = filters.load(self.file(text.replace("rules:\n", "rules:\n" + first)))
        mild = dataclasses.replace(at(0), detail="mild")
        found = [rules.decide(one).rule for one in (mild, mild, at(1), at(2))]
        self.assertEqual(["first", "first", "once", "often"], found)

    def test_explain_shows_the_count_without_counting(self):
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

    def test_reload_keeps_the_counts_of_an_unchanged_rate(self):
        before = self.load()
        self.rules(before, 0, 1)
        after = self.load()
        after.inherit(before)
        self.assertEqual(["often"], self.rules(after, 2))

    def test_reload_resets_the_counts_of_a_changed_rate(self):
        for changed in ({"count": 2}, {"seconds": 61}):
            before = self.load()
            self.rules(before, 0, 1)
            after = self.load(**changed)
            after.inherit(before)
            self.assertEqual(["once"], self.rules(after, 2), changed)

    def test_rate_accepts_fractions(self):
        rules = self.load(count="2.0", seconds="1.50")
        self.assertEqual(["once", "once", "often"], self.rules(rules, 0, 1.5, 2))

    def test_concurrent_explain_does_not_change_the_counts(self):
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
