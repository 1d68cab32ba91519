# SPDX-License-Identifier: Apache-2.0
"""Test the shipped policy files: which policy applies to a failure, and what it does."""

import dataclasses
from typing import ClassVar

from vmmonitor.drivers.nova import NovaDriver
from vmmonitor.model import event as events
from vmmonitor.rules import defaults, document, policies
from vmmonitor.tests.unit.rules import base
from vmmonitor.tests.unit.rules.test_shipped_filters import FAULTS, parse


class PoliciesTest(base.RulesTest):
    def setUp(self):
        super().setUp()
        self.policies = policies.load(defaults.path(defaults.RECOVERY_POLICIES))

    def policy(self, type, detail, **facts):
        return self.policies.choose(base.event(type, detail, **facts))

    def test_every_event_that_opens_an_incident_has_a_policy(self):
        for happens, lines in FAULTS.items():
            for line in lines.strip().splitlines():
                seen, action = parse(line)
                if action == events.INCIDENT:
                    policy = self.policies.choose(seen)
                    self.assertIsNotNone(policy, f"{happens}: {line.strip()}")
                    self.assertEqual(["libvirt"], [step.driver for step in policy.steps])

    def test_policy_has_the_expected_hold(self):
        for type, detail, hold in (
            ("lifecycle.stopped", "failed", 0),
            ("lifecycle.stopped", "crashed", 0),
            ("lifecycle.crashed", "panicked", 0),
            ("lifecycle.stopped", "shutdown", 5),
            ("lifecycle.stopped", "daemon", 5),
            ("lifecycle.stopped", "unknown", 5),
            ("lifecycle.stopped", "vanished", 5),
            ("lifecycle.suspended", "ioerror", 2),
            ("io_error", "pause", 2),
            ("watchdog", "reset", 10),
            ("watchdog", "shutdown", 10),
            ("watchdog", "poweroff", 10),
            ("watchdog", "pause", 0),
            ("lifecycle.suspended", "watchdog", 0),
            ("lifecycle.suspended", "api_error", 10),
            ("liveness.hung", "monitor", 5),
            ("liveness.stalled", "failed", 10),
        ):
            self.assertEqual(hold, self.policy(type, detail).hold, f"{type}/{detail}")

    def test_repeated_disk_errors_are_left_to_the_operator(self):
        for kind in ("io_error", "block_io_error"):
            policy = self.policy(kind, "report")
            self.assertEqual(("disk-errors", 10, ()), (policy.name, policy.hold, policy.steps))

    def test_pause_has_one_policy_for_every_source(self):
        for reason in ("ioerror", "watchdog", "crashed", "api_error", "postcopy_failed"):
            told = self.policy("lifecycle.suspended", reason)
            self.assertEqual(told.name, self.policy("liveness.paused", reason).name)
        self.assertIsNone(self.policy("liveness.paused", "user"))

    def test_suspicion_has_no_policy(self):
        self.assertIsNone(self.policy("liveness.stalled", "suspect"))

    def test_hung_policy_has_time_to_end_the_process(self):
        step = self.policy("liveness.hung", "stopped").steps[0]
        self.assertEqual((3, 60, "running"), (step.attempts, step.timeout, step.wait_for))

    def test_crash_policy_has_the_default_step(self):
        step = self.policy("lifecycle.stopped", "failed").steps[0]
        self.assertEqual(
            (3, 30, "running", 60), (step.attempts, step.timeout, step.wait_for, step.wait)
        )
        self.assertEqual([2, 4, 8], [step.backoff.delay(n, 0.0) for n in (1, 2, 3)])
        self.assertEqual(60, step.backoff.delay(50, 0.0))

    def test_storage_policy_has_unlimited_attempts(self):
        step = self.policy("lifecycle.suspended", "ioerror").steps[0]
        self.assertEqual((-1, 30), (step.attempts, step.wait))
        self.assertEqual(5, step.backoff.delay(1, 0.0))
        self.assertEqual(300, step.backoff.delay(50, 0.0))


class OpenStackPoliciesTest(base.RulesTest):
    """The file for where there is a nova: the same, done by other means."""

    def setUp(self):
        super().setUp()
        self.path = defaults.path(defaults.OPENSTACK_POLICIES)
        self.policies = policies.load(self.path, self.check)

    def check(self, step):
        self.assertEqual("nova", step.driver)
        NovaDriver.check_options(step.options)

    def test_openstack_policies_differ_in_their_steps_only(self):
        shipped = defaults.path(defaults.RECOVERY_POLICIES)
        left_out = ("steps", "description")
        ours, theirs = (
            [
                {key: value for key, value in row.items() if key not in left_out}
                for row in document.read(path).value["policies"]
            ]
            for path in (shipped, self.path)
        )
        self.assertEqual(ours, theirs)

    def test_openstack_policies_leave_the_same_incidents_to_the_operator(self):
        for row in policies.load(defaults.path(defaults.RECOVERY_POLICIES)).rows:
            acts = bool(row.value.steps)
            self.assertEqual(acts, bool(self.policies.get(row.name).steps), row.name)

    def test_evacuation_is_disabled(self):
        steps = [step for row in self.policies.rows for step in row.value.steps]
        evacuating = [step for step in steps if step.options["method"] == "evacuate"]
        self.assertEqual({False}, {step.enabled for step in evacuating})

    def test_crash_is_rebooted_and_storage_error_is_resumed(self):
        crash = self.policies.choose(base.event("lifecycle.stopped", "failed"))
        self.assertEqual((0, "hard_reboot"), (crash.hold, crash.steps[0].options["method"]))
        paused = self.policies.choose(base.event("lifecycle.suspended", "ioerror"))
        self.assertEqual(["resume"], [step.options["method"] for step in paused.steps])
        self.assertEqual(policies.WITHOUT_LIMIT, paused.steps[0].attempts)


class ShippedStepsTest(base.RulesTest):
    """The steps of both shipped files; a change of them changes what an upgrade does."""

    #: driver, options, attempts, timeout, wait_for, wait, backoff (initial, factor, max, jitter)
    LIBVIRT = ("libvirt", {}, 3, 30, "running", 60, (2, 2, 60, 0.1))
    LIBVIRT_STORAGE = ("libvirt", {}, -1, 30, "running", 30, (5, 2, 300, 0.1))
    LIBVIRT_HUNG = ("libvirt", {}, 3, 60, "running", 60, (2, 2, 60, 0.1))
    REBOOT = ("nova", {"method": "hard_reboot"}, 2, 30, "running", 120, (2, 2, 60, 0.1))
    STOP_START = ("nova", {"method": "stop_start"}, 1, 120, "running", 120, (2, 2, 60, 0.1))
    RESUME = ("nova", {"method": "resume"}, -1, 30, "running", 30, (5, 2, 300, 0.1))
    EVACUATE = ("nova", {"method": "evacuate"}, "off", 30, "active", 300, (15, 2, 120, 0.1))
    RESTART = (REBOOT, STOP_START)

    #: policy -> hold, steps with libvirt, steps with nova
    TABLE: ClassVar = {
        "crashed": (0, [LIBVIRT], [*RESTART, EVACUATE]),
        "stopped-without-a-reason": (5, [LIBVIRT], [*RESTART]),
        "ended-without-a-cause": (10, [LIBVIRT], [*RESTART]),
        "storage-error": (2, [LIBVIRT_STORAGE], [RESUME]),
        "disk-errors": (10, [], []),
        "watchdog-paused": (0, [LIBVIRT], [*RESTART]),
        "watchdog": (10, [LIBVIRT], [*RESTART]),
        "operation-failed": (10, [LIBVIRT], [*RESTART]),
        "hung": (5, [LIBVIRT_HUNG], [(*step[:5], 180, step[6]) for step in RESTART]),
        "stalled": (10, [LIBVIRT], [*RESTART]),
        "not-running": (0, [LIBVIRT], [*RESTART, EVACUATE]),
        "paused-unexpectedly": (0, [], []),
        "wrong-host": (0, [], []),
    }

    def steps(self, policy):
        for step in policy.steps:
            self.assertFalse(step.dry_run)
            attempts = step.attempts if step.enabled else "off"
            backoff = dataclasses.astuple(step.backoff)
            yield (
                *(step.driver, step.options, attempts, step.timeout, step.wait_for, step.wait),
                backoff,
            )

    def test_shipped_policies_have_these_steps(self):
        for column, name in enumerate((defaults.RECOVERY_POLICIES, defaults.OPENSTACK_POLICIES)):
            loaded = policies.load(defaults.path(name))
            self.assertEqual([*self.TABLE], [row.name for row in loaded.rows])
            self.assertEqual((), loaded.unused_step_lists)
            for policy, (hold, *steps) in self.TABLE.items():
                found = loaded.get(policy)
                self.assertEqual((hold, False), (found.hold, found.dry_run), policy)
                self.assertEqual((None, None), (found.max_restarts, found.restart_window), policy)
                self.assertEqual(steps[column], [*self.steps(found)], f"{name}: {policy}")
