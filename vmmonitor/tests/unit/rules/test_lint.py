# SPDX-License-Identifier: Apache-2.0
from vmmonitor.rules import defaults, filters, lint, policies
from vmmonitor.tests.unit.rules import base


class WarningsTest(base.RulesTest):
    def warnings(self, *rules, default="record"):
        rows = [
            f"- {{name: r{number}, match: {match}, action: {action}}}\n"
            for number, (match, action) in enumerate(rules)
        ]
        text = f"version: 1\ndefault: {{action: {default}}}\nrules:\n" + "".join(rows)
        return lint.lint_filters(filters.load(self.file(text)))

    def test_shipped_files_have_no_warnings(self):
        shipped = filters.load(defaults.path(defaults.EVENT_FILTERS))
        self.assertEqual([], lint.lint_filters(shipped))
        shipped = policies.load(defaults.path(defaults.RECOVERY_POLICIES))
        self.assertEqual([], lint.lint_policies(shipped))

    def test_unreachable_rule_is_reported(self):
        for before, after in (
            ("{}", "{type: a}"),
            ("{type: a}", "{type: a, detail: b}"),
            ("{type: {in: [a, b]}}", "{type: a}"),
            ("{host: {=~: x.*}}", "{host: {=~: x.*}, type: a}"),
            ("[{type: a}, {type: b}]", "[{type: b}, {type: a, host: c}]"),
        ):
            found = self.warnings((before, "incident"), (after, "record"))
            self.assertEqual(
                ["'r1' can never decide: 'r0' before it matches every event that it matches"],
                found,
            )

    def test_reachable_rule_is_not_reported(self):
        for before, after in (
            ("{type: a}", "{}"),
            ("{type: a, detail: b}", "{type: a}"),
            ("{type: a}", "{type: {in: [a, b]}}"),
            ("{type: a}", "[{type: a}, {type: b}]"),
            ('{type: {"!=": a}}', "{type: {not_in: [a, b]}}"),
        ):
            self.assertEqual([], self.warnings((before, "incident"), (after, "record")))

    def test_rule_after_a_rule_with_a_rate_is_reachable(self):
        rate = "incident, rate: {count: 2, seconds: 9}"
        self.assertEqual([], self.warnings(("{type: a}", rate), ("{type: a}", "record")))
        found = self.warnings(("{type: a}", "incident"), ("{type: a}", rate))
        self.assertEqual(1, len(found), found)

    def test_filter_that_opens_no_incident_is_reported(self):
        self.assertEqual(["no rule opens an incident"], self.warnings(("{}", "record")))

    def test_evidence_of_an_ignored_event_is_reported(self):
        path = self.file(
            "version: 1\nrules:\n"
            "- {name: a, match: {type: a}, action: ignore, evidence: [stats]}\n"
            "- {name: b, match: {}, action: incident, evidence: [stats]}\n"
        )
        self.assertEqual(
            ["'a' requests evidence but ignores the event: no evidence is captured"],
            lint.lint_filters(filters.load(path)),
        )

    def test_ignored_resolving_event_is_reported(self):
        found = self.warnings(("{type: lifecycle.resumed}", "ignore"), ("{}", "incident"))
        self.assertEqual(1, len(found))
        self.assertIn("'r0' ignores lifecycle.resumed", found[0])
        found = self.warnings(("{detail: failed}", "incident"), default="ignore")
        self.assertEqual(4, len(found))
        self.assertIn("'default' ignores lifecycle.resumed", found[0])


class PolicyWarningsTest(base.RulesTest):
    def warnings(self, steps):
        row = f"- {{name: a, match: {{}}, steps: [{steps}]}}\n"
        return lint.lint_policies(policies.load(self.file("version: 1\npolicies:\n" + row)))

    def test_step_after_an_unlimited_step_is_reported(self):
        self.assertEqual(
            ["'a': the later steps never run: step 1 (x) has no limit of attempts"],
            self.warnings("{driver: x, attempts: -1}, {driver: y}"),
        )
        self.assertEqual([], self.warnings("{driver: x}, {driver: y, attempts: -1}"))
        self.assertEqual(
            [], self.warnings("{driver: x, attempts: -1, enabled: false}, {driver: y}")
        )

    def test_step_list_without_a_reference_is_reported(self):
        path = self.file(
            "version: 1\nstep_lists:\n  used: [{driver: x}]\n  spare: [{driver: y}]\n"
            "policies:\n- {name: a, match: {}, steps: [used]}\n"
        )
        self.assertEqual(
            ["step list 'spare' is not used"], lint.lint_policies(policies.load(path))
        )

    def test_policy_without_an_enabled_step_is_reported(self):
        self.assertEqual(
            ["'a': no step is enabled: its incidents are not recovered"],
            self.warnings("{driver: x, enabled: false}"),
        )
        self.assertEqual([], self.warnings(""))
