# SPDX-License-Identifier: Apache-2.0
import os

import hypothesis
from hypothesis import strategies as st

from vmmonitor.model import errors, evidence
from vmmonitor.model.event import Decision
from vmmonitor.rules import defaults, filters
from vmmonitor.rules.ruleset import Row, RuleSet
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

    def test_loaded_filters_have_path_and_checksum(self):
        self.assertEqual(self.path, self.filters.path)
        self.assertEqual(64, len(self.filters.checksum))

    def test_first_matching_rule_decides(self):
        decided = self.filters.decide(base.event(instance={"name": "web-1"}))
        self.assertEqual(
            Decision(action="incident", severity="critical", rule="web"),
            decided,
        )

    def test_rule_with_one_failed_test_does_not_decide(self):
        decided = self.filters.decide(base.event(instance={"name": "web-test"}))
        self.assertEqual(Decision(action="record", severity="warning", rule="any-of"), decided)

    def test_rule_with_one_matching_alternative_decides(self):
        seen = base.event("x", "y", host="compute-2", code="5")
        self.assertEqual("any-of", self.filters.decide(seen).rule)

    def test_default_decides_without_a_match(self):
        decided = self.filters.decide(base.event("x", "y", code=5))
        self.assertEqual(Decision(action="ignore", severity="info", rule="default"), decided)

    def test_missing_default_records_the_event(self):
        bare = filters.load(self.file("version: 1\nrules: []\n"))
        self.assertEqual(
            Decision(action="record", severity="info", rule="default"), bare.decide(base.event())
        )

    def test_explain_lists_each_tried_rule(self):
        trials = self.filters.explain(base.event("x", "y", code=6))
        self.assertEqual(["web", "any-of", "default"], [trial.rule for trial in trials])
        self.assertEqual([False, False, True], [trial.matched for trial in trials])
        self.assertEqual(
            "any-of: no, detail = 'failed' fails: it is 'y'; attributes.code = 5 fails: it is 6",
            str(trials[1]),
        )

    def test_explain_ends_with_the_matching_rule(self):
        trials = self.filters.explain(base.event(instance={"name": "web-1"}))
        self.assertEqual(["web: matches"], [str(trial) for trial in trials])

    @STEADY
    @hypothesis.given(st.lists(MATCHES, max_size=6), EVENTS)
    def test_index_by_type_finds_the_first_match(self, matches, seen):
        rows = [Row(name=str(n), match=match, value=n) for n, match in enumerate(matches)]
        expected = next((row.value for row in rows if row.match.holds(seen)), None)
        self.assertEqual(expected, RuleSet(rows).first(seen))


class RefuseTest(base.RulesTest):
    def test_all_errors_are_reported_with_their_place(self):
        self.assertEqual(
            [
                "1:10: version: must be 1, not 2",
                "2:19: default.action: 'recrd' is not one of ignore, record, incident; "
                "did you mean 'record'?",
                "3:1: the file: unknown field 'rulez'; did you mean 'rules'?",
                "7:5: rules[0].match: unknown field 'typ'; did you mean 'type'?",
                "8:14: rules[0].match.detail: unknown field 'inn'; did you mean 'in'?",
                "9:5: rules[0].match: unknown field 'attribute.foo'; "
                "did you mean 'attributes.foo'?",
                "10:5: rules[0].match.host: the value is a list, not a string or a number or a "
                "boolean; for several values write in: [...]",
                "11:11: rules[0].action: 5 is a number, not a string",
                "11:11: rules[0].action: 5 is not one of ignore, record, incident",
                "12:3: rules[1]: the field 'action' is missing",
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

    def test_at_most_ten_errors_are_reported(self):
        rules = "".join(f"- {{name: r{n}, match: {{}}, action: x}}\n" for n in range(25))
        lines = self.refusal(filters.load, "version: 1\nrules:\n" + rules)
        self.assertEqual(11, len(lines))
        self.assertEqual("and 15 more", lines[-1])

    def test_duplicate_name_and_invalid_pattern_are_refused(self):
        self.assertEqual(
            [
                "4:22: 'a(' is not a regular expression: missing ), unterminated subpattern at "
                "position 1",
                "6:9: rules[1].name: duplicate name 'a', first used on line 3",
                "9:9: rules[2].name: 'default' is a reserved name",
            ],
            self.refusal(
                filters.load,
                "version: 1\nrules:\n"
                "- name: a\n  match: {type: {=~: 'a('}}\n  action: record\n"
                "- name: a\n  match: {}\n  action: record\n"
                "- name: default\n  match: {}\n  action: record\n",
            ),
        )

    def test_single_error_is_reported_with_its_reason(self):
        for match, reason in (
            ("[]", "must not be empty"),
            ("{type: {}}", "must not be empty"),
            ("{type: {in: []}}", "must not be empty"),
            ("{type: {in: a}}", "'a' is a string, not a list"),
            ("{type: ~}", "the value is empty, not a string or a number or a boolean"),
            ("{type: {=~: 5}}", "5 is a number, not a string"),
            ("{attributes.: x}", "'attributes.' has no attribute name"),
            ("{instance.nam: x}", "did you mean 'instance.name'?"),
            ("{}, rate: {count: 5}", "the field 'seconds' is missing"),
            ("{}, rate: {count: 1, seconds: 9}", "1 is below the minimum of 2"),
            ("{}, rate: {count: 2, seconds: 0}", "0 is below the minimum of 0.1"),
            ("{}, rate: {count: 2.5, seconds: 9}", "2.5 is a number, not a whole number"),
            ("{}, rate: {count: 2, seconds: 9, per: []}", "must not be empty"),
            ("{}, rate: {count: 2, seconds: 9, per: host}", "'host' is a string, not a list"),
            (
                "{}, rate: {count: 2, seconds: 9, per: [instance.nam]}",
                "rules[0].rate.per[0]: unknown field 'instance.nam'; did you mean",
            ),
            (
                "{}, rate: {count: 2, seconds: 9, per: [attributes.]}",
                "'attributes.' has no attribute name",
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

    def test_file_without_a_mapping_is_refused(self):
        self.assertEqual(
            ["1:1: the file: the value is a list, not a mapping"],
            self.refusal(filters.load, "[a]"),
        )

    def test_file_with_too_many_rules_is_refused(self):
        self.assertEqual(
            ["2:1: rules: has 1001 entries; the maximum is 1000"],
            self.refusal(
                filters.load,
                "version: 1\nrules:\n"
                + "".join(f"- {{name: r{n}, match: {{}}, action: record}}\n" for n in range(1001)),
            ),
        )

    def test_long_value_is_cut_in_the_error(self):
        row = f"- {{name: {'x' * 5000}, match: {{}}, action: {'y' * 5000}}}\n"
        for line in self.refusal(filters.load, "version: 1\nrules:\n" + row):
            self.assertLess(len(line), 300)

    def test_policy_file_is_refused_as_filter_file(self):
        with open(defaults.path(defaults.RECOVERY_POLICIES), encoding="utf-8") as file:
            lines = self.refusal(filters.load, file.read())
        self.assertIn("unknown field 'policies'", " ".join(lines))

    def test_deleted_file_is_refused(self):
        path = base.write(GOOD)
        filters.load(path)
        os.remove(path)
        error = self.assertRaises(errors.InvalidRules, filters.load, path)
        self.assertIn("No such file", str(error))


class EvidenceTest(base.RulesTest):
    ROW = "version: 1\nrules:\n- {{name: a, match: {{type: b}}, action: record, evidence: {}}}\n"

    def test_shipped_rules_request_no_evidence(self):
        shipped = filters.load(defaults.path(defaults.EVENT_FILTERS))
        self.assertEqual([], [kind for kind in evidence.KINDS if shipped.wants(kind)])

    def test_evidence_is_requested_in_the_order_of_capture(self):
        path = self.file(self.ROW.format("[qemu_log, stats, screenshot]"))
        loaded = filters.load(path)
        asked = loaded.decide(base.event("b")).evidence
        self.assertEqual(("screenshot", "stats", "qemu_log"), asked)
        self.assertEqual((), loaded.decide(base.event("c")).evidence)
        self.assertEqual((True, False), (loaded.wants("stats"), loaded.wants("panic")))

    def test_default_can_request_evidence(self):
        path = self.file("version: 1\ndefault: {action: record, evidence: [panic]}\nrules: []\n")
        self.assertTrue(filters.load(path).wants("panic"))

    def test_invalid_evidence_is_refused(self):
        for asked, reason in (
            ("[screen]", "'screen' is not one of screenshot, panic"),
            ("[screen]", "did you mean 'screenshot'?"),
            ("screenshot", "'screenshot' is a string, not a list"),
            ("[[stats]]", "the value is not one of screenshot"),
            ("[stats, stats]", "must not contain an entry twice"),
        ):
            lines = " ".join(self.refusal(filters.load, self.ROW.format(asked)))
            self.assertIn(reason, lines)
