# SPDX-License-Identifier: Apache-2.0
import os

import hypothesis
from hypothesis import strategies as st

from vmmonitor.model import errors, evidence
from vmmonitor.model.event import Decision
from vmmonitor.rules import defaults, filters
from vmmonitor.rules.ordered import Row, Rows
from vmmonitor.tests.unit.rules import base
from vmmonitor.tests.unit.rules.test_matchers import EVENTS, MATCHES, STEADY

GOOD = """\
version: 1
default: {action: ignore}
rules:
- name: web
  match:
    instance.name: {"=~": "web-.*", "!=": web-test}
    type: {in: [lifecycle.stopped, watchdog]}
  action: incident
- name: any-of
  match:
  - detail: failed
  - {attributes.code: 5, host: compute-2}
  action: record
  severity: warning
"""


class DecideTest(base.RulesTest):
    def setUp(self):
        super().setUp()
        self.path = self.file(GOOD)
        self.filters = filters.load(self.path)

    def test_file_is_named(self):
        self.assertEqual(self.path, self.filters.path)
        self.assertEqual(64, len(self.filters.checksum))

    def test_first_match_decides(self):
        decided = self.filters.decide(base.event(instance={"name": "web-1"}))
        self.assertEqual(
            Decision(action="incident", severity="critical", rule="web"),
            decided,
        )

    def test_all_tests_must_hold(self):
        decided = self.filters.decide(base.event(instance={"name": "web-test"}))
        self.assertEqual(Decision(action="record", severity="warning", rule="any-of"), decided)

    def test_any_alternative_is_enough(self):
        seen = base.event("x", "y", host="compute-2", code="5")
        self.assertEqual("any-of", self.filters.decide(seen).rule)

    def test_default(self):
        decided = self.filters.decide(base.event("x", "y", code=5))
        self.assertEqual(Decision(action="ignore", severity="info", rule="default"), decided)

    def test_default_may_be_left_out(self):
        bare = filters.load(self.file("version: 1\nrules: []\n"))
        self.assertEqual(
            Decision(action="record", severity="info", rule="default"), bare.decide(base.event())
        )

    def test_explain_names_each_rule_that_was_tried(self):
        trials = self.filters.explain(base.event("x", "y", code=6))
        self.assertEqual(["web", "any-of", "default"], [trial.rule for trial in trials])
        self.assertEqual([False, False, True], [trial.matched for trial in trials])
        self.assertEqual(
            "any-of: no, detail = 'failed' fails: it is 'y'; attributes.code = 5 fails: it is 6",
            str(trials[1]),
        )

    def test_explain_ends_with_the_rule_that_decided(self):
        trials = self.filters.explain(base.event(instance={"name": "web-1"}))
        self.assertEqual(["web: matches"], [str(trial) for trial in trials])

    @STEADY
    @hypothesis.given(st.lists(MATCHES, max_size=6), EVENTS)
    def test_index_by_type_changes_nothing(self, matches, seen):
        rows = [Row(name=str(n), match=match, value=n) for n, match in enumerate(matches)]
        expected = next((row.value for row in rows if row.match.holds(seen)), None)
        self.assertEqual(expected, Rows(rows).first(seen))


class RefuseTest(base.RulesTest):
    def test_everything_is_told_with_its_place(self):
        self.assertEqual(
            [
                "1:10: version: must be 1, not 2",
                "2:19: default.action: 'recrd' is not one of ignore, record, incident; "
                "did you mean 'record'?",
                "3:1: unknown field 'rulez'; did you mean 'rules'?",
                "7:5: unknown field 'typ'; did you mean 'type'?",
                "8:14: unknown field 'inn'; did you mean 'in'?",
                "9:5: unknown field 'attribute.foo'; did you mean 'attributes.foo'?",
                "10:5: rules[0].match.host: it is a list, not a string or a number or a "
                "boolean; for several write in: [...]",
                "11:11: rules[0].action: 5 is a number, not a string",
                "11:11: rules[0].action: 5 is not one of ignore, record, incident",
                "12:3: rules[1]: 'action' is a required property",
            ],
            self.refusal(
                filters.load,
                "version: 2\n"
                "default: {action: recrd}\n"
                "rulez: []\n"
                "rules:\n"
                "- name: a\n"
                "  match:\n"
                "    typ: x\n"
                "    detail: {inn: [a]}\n"
                "    attribute.foo: y\n"
                "    host: [a, b]\n"
                "  action: 5\n"
                "- name: b\n"
                "  match: {}\n",
            ),
        )

    def test_no_more_than_ten(self):
        rules = "".join(f"- {{name: r{n}, match: {{}}, action: x}}\n" for n in range(25))
        lines = self.refusal(filters.load, "version: 1\nrules:\n" + rules)
        self.assertEqual(11, len(lines))
        self.assertEqual("and 15 more", lines[-1])

    def test_names_and_patterns(self):
        self.assertEqual(
            [
                "4:22: 'a(' is not a regular expression: missing ), unterminated subpattern at "
                "position 1",
                "6:9: the name 'a' is there twice, first on line 3",
                "9:9: the name 'default' is taken; choose another",
            ],
            self.refusal(
                filters.load,
                "version: 1\nrules:\n"
                "- name: a\n  match: {type: {=~: 'a('}}\n  action: record\n"
                "- name: a\n  match: {}\n  action: record\n"
                "- name: default\n  match: {}\n  action: record\n",
            ),
        )

    def test_single_faults(self):
        for match, reason in (
            ("[]", "must not be empty"),
            ("{type: {}}", "must not be empty"),
            ("{type: {in: []}}", "must not be empty"),
            ("{type: {in: a}}", "'a' is a string, not a list"),
            ("{type: ~}", "None is empty, not a string or a number or a boolean"),
            ("{type: {=~: 5}}", "5 is a number, not a string"),
            ("{attributes.: x}", "'attributes.' names no attribute"),
            ("{instance.nam: x}", "did you mean 'instance.name'?"),
            ("{}, rate: {count: 5}", "'seconds' is a required property"),
            ("{}, rate: {count: 1, seconds: 9}", "1 is less than the minimum of 2"),
            ("{}, rate: {count: 2, seconds: 0}", "0 is less than the minimum of 0.1"),
            ("{}, rate: {count: 2.5, seconds: 9}", "2.5 is a number, not a whole number"),
            ("{}, rate: {count: 2, seconds: 9, per: []}", "must not be empty"),
            ("{}, rate: {count: 2, seconds: 9, per: host}", "'host' is a string, not a list"),
            (
                "{}, rate: {count: 2, seconds: 9, per: [instance.nam]}",
                "rules[0].rate.per[0]: unknown field 'instance.nam'; did you mean",
            ),
            (
                "{}, rate: {count: 2, seconds: 9, per: [attributes.]}",
                "'attributes.' names no attribute",
            ),
            ("{}, rate: 5", "5 is a number, not a mapping"),
            ("{severity: x}", "unknown field 'severity'; known are source, type, detail, host"),
            ("5", "5 is a number, not a mapping"),
        ):
            row = f"- {{name: a, match: {match}, action: record}}\n"
            lines = self.refusal(filters.load, "version: 1\nrules:\n" + row)
            self.assertEqual(1, len(lines), lines)
            self.assertIn(reason, lines[0])
            self.assertTrue(lines[0].startswith("3:"), lines[0])

    def test_what_is_no_mapping(self):
        self.assertEqual(
            ["1:1: the file: it is a list, not a mapping"], self.refusal(filters.load, "[a]")
        )

    def test_too_many_rules(self):
        self.assertEqual(
            ["2:1: rules: has 1001 entries, and 1000 at most are allowed"],
            self.refusal(
                filters.load,
                "version: 1\nrules:\n"
                + "".join(f"- {{name: r{n}, match: {{}}, action: record}}\n" for n in range(1001)),
            ),
        )

    def test_long_values_are_cut(self):
        row = f"- {{name: {'x' * 5000}, match: {{}}, action: {'y' * 5000}}}\n"
        for line in self.refusal(filters.load, "version: 1\nrules:\n" + row):
            self.assertLess(len(line), 300)

    def test_a_policy_file_is_no_filter_file(self):
        with open(defaults.path(defaults.RECOVERY_POLICIES), encoding="utf-8") as file:
            lines = self.refusal(filters.load, file.read())
        self.assertIn("unknown field 'policies'", " ".join(lines))

    def test_a_file_that_went_away_is_refused(self):
        path = base.write(GOOD)
        filters.load(path)
        os.remove(path)
        error = self.assertRaises(errors.InvalidRules, filters.load, path)
        self.assertIn("No such file", str(error))


class EvidenceTest(base.RulesTest):
    ROW = "version: 1\nrules:\n- {{name: a, match: {{type: b}}, action: record, evidence: {}}}\n"

    def test_no_shipped_rule_asks_for_any(self):
        shipped = filters.load(defaults.path(defaults.EVENT_FILTERS))
        self.assertEqual([], [kind for kind in evidence.KINDS if shipped.wants(kind)])

    def test_it_is_asked_for_in_the_order_in_which_it_is_captured(self):
        path = self.file(self.ROW.format("[qemu_log, stats, screenshot]"))
        loaded = filters.load(path)
        asked = loaded.decide(base.event("b")).evidence
        self.assertEqual(("screenshot", "stats", "qemu_log"), asked)
        self.assertEqual((), loaded.decide(base.event("c")).evidence)
        self.assertEqual((True, False), (loaded.wants("stats"), loaded.wants("panic")))

    def test_the_default_may_ask_too(self):
        path = self.file("version: 1\ndefault: {action: record, evidence: [panic]}\nrules: []\n")
        self.assertTrue(filters.load(path).wants("panic"))

    def test_what_is_wrong_is_told(self):
        for asked, reason in (
            ("[screen]", "'screen' is not one of screenshot, panic"),
            ("[screen]", "did you mean 'screenshot'?"),
            ("screenshot", "'screenshot' is a string, not a list"),
            ("[[stats]]", "it is not one of screenshot"),
            ("[stats, stats]", "non-unique"),
        ):
            lines = " ".join(self.refusal(filters.load, self.ROW.format(asked)))
            self.assertIn(reason, lines)
