# SPDX-License-Identifier: Apache-2.0
import hypothesis
from hypothesis import strategies as st

from vmmonitor.model.errors import InvalidRules
from vmmonitor.rules import policies
from vmmonitor.rules.policies import Backoff, Policy, PolicyStep
from vmmonitor.tests.unit.rules import base
from vmmonitor.tests.unit.rules.test_matchers import STEADY

GOOD = """\
version: 1
policies:
- name: crashed
  description: Words for people.
  match: {type: lifecycle.stopped}
  hold: 2.5
  steps:
  - driver: libvirt
    attempts: -1
    timeout: 10
    wait_for: nothing
    wait: 0
    backoff: {initial: 1, factor: 3, max: 9, jitter: 0}
  - driver: log
- name: nothing
  match: {type: watchdog}
  steps: []
"""


class PoliciesTest(base.RulesTest):
    def setUp(self):
        super().setUp()
        self.policies = policies.load(self.file(GOOD))

    def test_policy_is_read_with_all_fields(self):
        self.assertEqual(
            Policy(
                name="crashed",
                hold=2.5,
                steps=(
                    PolicyStep(
                        driver="libvirt",
                        attempts=-1,
                        timeout=10.0,
                        wait_for="nothing",
                        wait=0.0,
                        backoff=Backoff(initial=1.0, factor=3.0, max=9.0, jitter=0.0),
                    ),
                    PolicyStep(driver="log"),
                ),
            ),
            self.policies.get("crashed"),
        )

    def test_first_matching_policy_is_chosen(self):
        self.assertIs(self.policies.get("crashed"), self.policies.choose(base.event()))
        self.assertEqual(
            Policy(name="nothing"), self.policies.choose(base.event("watchdog", "reset"))
        )
        self.assertIsNone(self.policies.choose(base.event("io_error", "pause")))

    def test_unknown_policy_name_returns_none(self):
        self.assertIsNone(self.policies.get("old"))

    def test_explain_lists_each_tried_policy(self):
        trials = self.policies.explain(base.event("io_error", "pause"))
        self.assertEqual([False, False], [trial.matched for trial in trials])

    def test_invalid_step_is_refused_with_its_reason(self):
        for step, reason in (
            ("{}", "the field 'driver' is missing"),
            ("{driver: a, attempts: -2}", "-2 is below the minimum of -1"),
            ("{driver: a, attempts: 0}", "to turn a step off write enabled: false"),
            ("{driver: a, enabled: 0}", "0 is a number, not a boolean"),
            ("7", "7 is a number, not a mapping or a string"),
            ("{driver: a, attempts: 1.5}", "1.5 is a number, not a whole number"),
            ("{driver: a, wait_for: runing}", "did you mean 'running'?"),
            ("{driver: a, timeout: 0}", "0 is below the minimum of 0.1"),
            ("{driver: a, backoff: {factor: 0.5}}", "0.5 is below the minimum of 1"),
            ("{driver: a, backoff: {maximum: 5}}", "did you mean 'max'?"),
            ("{driver: a, retries: 5}", "unknown field 'retries'"),
            ("{driver: a, options: fast}", "'fast' is a string, not a mapping"),
        ):
            row = f"- {{name: a, match: {{}}, steps: [{step}]}}\n"
            lines = self.refusal(policies.load, "version: 1\npolicies:\n" + row)
            self.assertEqual(1, len(lines), lines)
            self.assertIn(reason, lines[0])

    def test_policy_limits_override_the_options(self):
        limits = "{max_restarts: -1, restart_window: 60}"
        rows = f"- {{name: a, match: {{}}, steps: [], limits: {limits}}}\n"
        rows += "- {name: b, match: {}, steps: [], limits: {max_restarts: 0}}\n"
        rows += "- {name: c, match: {}, steps: []}\n"
        loaded = policies.load(self.file("version: 1\npolicies:\n" + rows))
        limits = [(row.value.max_restarts, row.value.restart_window) for row in loaded.rows]
        self.assertEqual([(-1, 60), (0, None), (None, None)], limits)

    def test_invalid_limits_are_refused(self):
        for limits, reason in (
            ("{max_restarts: -2}", "-2 is below the minimum of -1"),
            ("{restart_window: 0}", "0 is below the minimum of 1"),
            ("{max_restart: 3}", "did you mean 'max_restarts'?"),
        ):
            row = f"- {{name: a, match: {{}}, steps: [], limits: {limits}}}\n"
            (line,) = self.refusal(policies.load, "version: 1\npolicies:\n" + row)
            self.assertIn(reason, line)

    def test_step_that_its_driver_refuses_is_reported_with_its_place(self):
        rows = """version: 1
policies:
- name: a
  match: {}
  steps:
  - driver: b
    options: {one: {deep: 1}, two: 2}
  - driver: c
  - driver: d
"""

        def check(step):
            if step.driver == "d":
                raise InvalidRules("it needs one", option="one")
            if step.driver == "c":
                raise InvalidRules("there is no c")
            for option in ("two", "three"):
                if step.options.get("one") == {"deep": 1}:
                    raise InvalidRules("no", option=option)

        (two, driver, missing) = self.refusal(lambda path: policies.load(path, check), rows)
        self.assertIn("7:36: policy a: no: option 'two'", two)
        self.assertIn("8:13: policy a: there is no c", driver)
        self.assertIn("9:5: policy a: it needs one: option 'one'", missing)

    def test_policy_with_a_rate_is_refused(self):
        row = "- {name: a, match: {}, steps: [], rate: {count: 2, seconds: 9}}\n"
        (line,) = self.refusal(policies.load, "version: 1\npolicies:\n" + row)
        self.assertIn("unknown field 'rate'", line)


class StepListsTest(base.RulesTest):
    HEAD = "version: 1\nstep_lists:\n"

    def load(self, step_lists, *policies_of_file):
        return policies.load(self.file(self.text(step_lists, *policies_of_file)))

    def text(self, step_lists, *steps_of_policies):
        rows = [
            f"- {{name: p{number}, match: {{}}, steps: {steps}}}\n"
            for number, steps in enumerate(steps_of_policies)
        ]
        return f"{self.HEAD}{step_lists}policies:\n{''.join(rows)}"

    def refused(self, step_lists, *steps):
        return self.refusal(policies.load, self.text(step_lists, *steps))

    def test_step_list_is_inserted_at_its_name(self):
        loaded = self.load(
            "  restart: [{driver: a, wait: 9}, {driver: b, enabled: false}]\n",
            "[restart]",
            "[{driver: first}, restart, {driver: last}]",
        )
        restart = (PolicyStep(driver="a", wait=9.0), PolicyStep(driver="b", enabled=False))
        self.assertEqual(restart, loaded.get("p0").steps)
        self.assertEqual(restart[:1], loaded.get("p0").enabled_steps)
        first, last = PolicyStep(driver="first"), PolicyStep(driver="last")
        self.assertEqual((first, *restart, last), loaded.get("p1").steps)

    def test_unknown_step_list_is_refused_with_its_place(self):
        self.assertEqual(
            [
                "5:46: policies[0].steps[1]: unknown step list 'restrat'; did you mean 'restart'?",
                "6:33: policies[1].steps[0]: unknown step list 'x'; known are restart",
            ],
            self.refused("  restart: [{driver: a}]\n", "[{driver: a}, restrat]", "[x]"),
        )
        self.assertEqual(
            ["3:32: policies[0].steps[0]: unknown step list 'restart'"],
            self.refusal(
                policies.load,
                "version: 1\npolicies:\n- {name: p, match: {}, steps: [restart]}\n",
            ),
        )

    def test_step_list_in_a_step_list_is_refused(self):
        for lists in ("  a: [b]\n  b: [{driver: x}]\n", "  a: [a]\n"):
            (line, *others) = self.refused(lists, "[a]")
            self.assertIn("3:7: step_lists.a[0]: a step list must contain steps, not", line)
            self.assertEqual([], others)

    def test_step_list_with_an_invalid_step_is_refused(self):
        for lists, reason in (
            ("  a: []\n", "3:3: step_lists.a: must not be empty"),
            ("  a: {driver: x}\n", "3:3: step_lists.a: the value is a mapping, not a list"),
            ("  a: [{}]\n", "3:7: step_lists.a[0]: the field 'driver' is missing"),
            ("  a: [{driver: x, wiat: 1}]\n", "unknown field 'wiat'; did you mean 'wait'?"),
            ("  '': [{driver: x}]\n", "2:1: step_lists: must not be empty"),
        ):
            (line, *_) = self.refused(lists, "[a]")
            self.assertIn(reason, line)

    def test_policy_with_too_many_steps_is_refused(self):
        many = "  a: [" + "{driver: x}, " * 99 + "{driver: x}]\n"
        self.assertEqual(100, len(self.load(many, "[a]").get("p0").steps))
        self.assertEqual(
            [
                "5:25: policies[0].steps: has 101 steps with its step lists inserted; the maximum "
                "is 100"
            ],
            self.refused(many, "[a, {driver: x}]"),
        )

    def test_step_that_its_driver_refuses_is_reported_once_at_its_definition(self):
        def check(step):
            raise InvalidRules("no", option="how")

        text = self.text("  a: [{driver: x, options: {how: 1}}]\n", "[a]", "[a, {driver: y}]")
        in_list, in_policy = self.refusal(lambda path: policies.load(path, check), text)
        self.assertIn("3:34: step list a: no", in_list)
        self.assertIn("6:36: policy p1: no", in_policy)

    def test_unreferenced_step_list_is_listed_as_unused(self):
        loaded = self.load("  a: [{driver: x}]\n  b: [{driver: y}]\n", "[b]")
        self.assertEqual(("a",), loaded.unused_step_lists)


class BackoffTest(base.RulesTest):
    def test_delay_grows_to_the_maximum(self):
        backoff = Backoff(initial=2, factor=2, max=10, jitter=0.5)
        self.assertEqual([2, 4, 8, 10, 10], [backoff.delay(n, 0.0) for n in range(1, 6)])

    def test_jitter_shortens_the_delay(self):
        self.assertEqual(5.0, Backoff(initial=10, jitter=0.5).delay(1, 1.0))

    @STEADY
    @hypothesis.given(
        st.builds(
            Backoff,
            initial=st.floats(0, 86400),
            factor=st.floats(1, 100),
            max=st.floats(0, 86400),
            jitter=st.floats(0, 1),
        ),
        st.integers(1, 10**9),
        st.floats(0, 1),
    )
    def test_delay_is_between_zero_and_the_maximum(self, backoff, attempt, random):
        delay = backoff.delay(attempt, random)
        self.assertTrue(0 <= delay <= backoff.max, delay)
