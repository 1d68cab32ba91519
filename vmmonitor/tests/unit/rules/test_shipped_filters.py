# SPDX-License-Identifier: Apache-2.0
"""Test the decisions of the shipped filter on recorded events of libvirt."""

import dataclasses
import os

from vmmonitor.model import event as events
from vmmonitor.rules import defaults, filters, policies
from vmmonitor.sources.libvirt import tables
from vmmonitor.tests.unit.rules import base

#: Fault or operation -> the events that libvirt sends, in order, each with the expected action:
#: type/detail, optionally "host" or "guest" for shutdown_by, action. Recorded with libvirt 9.0.0
#: and QEMU 7.2.
FAULTS = {
    "qemu is killed or crashes": "lifecycle.stopped/failed incident",
    "qemu gets SIGTERM": """
        lifecycle.shutdown/host record
        lifecycle.stopped/shutdown host incident""",
    "guest powers itself off": """
        lifecycle.shutdown/guest record
        lifecycle.stopped/shutdown guest record""",
    "guest resets itself, virsh reset": "reboot record\nreboot record",
    "virsh destroy, nova's power-off": """
        lifecycle.shutdown/host record
        lifecycle.stopped/destroyed record""",
    "virsh suspend": "lifecycle.suspended/paused record",
    "virsh save": """
        lifecycle.suspended/paused record
        migration_iteration ignore
        job_completed record
        lifecycle.stopped/saved record""",
    "live migration, source host": """
        migration_iteration ignore
        lifecycle.suspended/migrated record
        lifecycle.stopped/migrated record
        job_completed record""",
    "live migration, target host": """
        lifecycle.started/migrated record
        lifecycle.resumed/migrated record""",
    "panic, on_crash=preserve": """
        lifecycle.suspended/paused record
        lifecycle.crashed/panicked incident""",
    "panic, on_crash=destroy": """
        lifecycle.crashed/panicked incident
        lifecycle.stopped/crashed incident""",
    "panic, on_crash=restart": """
        lifecycle.crashed/panicked incident
        reboot record
        lifecycle.resumed/unpaused record
        reboot record""",
    "kdump": "lifecycle.crashed/crashloaded record",
    "watchdog, reset": "watchdog/reset incident\nreboot record\nreboot record",
    "watchdog, poweroff": "watchdog/poweroff incident\nlifecycle.stopped/failed incident",
    "watchdog, shutdown": "watchdog/shutdown incident",
    "watchdog, none": "watchdog/none record",
    "watchdog, inject-nmi": "watchdog/inject-nmi record",
    "watchdog, debug": "watchdog/debug record",
    "watchdog, pause": "watchdog/pause incident\nlifecycle.suspended/watchdog incident",
    "ENOSPC, or policy stop": """
        io_error/pause incident
        io_error_reason/pause record
        lifecycle.suspended/ioerror incident""",
    "disk error, policy report": "io_error/report record\nio_error_reason/report record",
    "disk error, policy ignore": "io_error/none record\nio_error_reason/none record",
    "disk error, source without a name": "lifecycle.suspended/ioerror incident",
    "migration broke off": """
        lifecycle.suspended/api_error incident
        lifecycle.suspended/postcopy_failed incident""",
    "found after a time without libvirt": """
        lifecycle.stopped/daemon incident
        lifecycle.stopped/unknown incident
        lifecycle.stopped/vanished incident
        lifecycle.crashed/unknown incident
        lifecycle.suspended/crashed incident""",
}


def parse(line):
    """Return the event and the action of a line of the table."""
    kind, *by, action = line.split()
    type, _, detail = kind.partition("/")
    return base.event(type, detail, **({"shutdown_by": by[0]} if by else {})), action


class FiltersTest(base.RulesTest):
    def setUp(self):
        super().setUp()
        self.filters = filters.load(defaults.path(defaults.EVENT_FILTERS))
        self.policies = policies.load(defaults.path(defaults.RECOVERY_POLICIES))

    def decision(self, type, detail="", **facts):
        decided = self.filters.decide(base.event(type, detail, **facts))
        return decided.action, decided.severity

    def test_measured_event_has_the_expected_action(self):
        for happens, lines in FAULTS.items():
            for line in lines.strip().splitlines():
                seen, action = parse(line)
                decided = self.filters.decide(seen)
                self.assertEqual(action, decided.action, f"{happens}: {line.strip()}")
                self.assertNotEqual("default", decided.rule, f"{happens}: {line.strip()}")
                if action == events.INCIDENT:
                    self.assertEqual(events.CRITICAL, decided.severity)

    def test_minor_fault_is_recorded_as_a_warning(self):
        for type, detail in (
            ("io_error", "report"),
            ("io_error", "none"),
            ("io_error_reason", "pause"),
            ("watchdog", "none"),
            ("watchdog", "inject-nmi"),
            ("lifecycle.crashed", "crashloaded"),
            ("lifecycle.shutdown", "host"),
            ("agent_lifecycle", "disconnected"),
            ("control_error", ""),
            ("memory_failure", ""),
            ("block_threshold", ""),
            ("block_io_error", "stop"),
            ("block_io_error", "report"),
            ("guest_panicked", "pause"),
            ("device_removal_failed", ""),
            ("block_job", "failed"),
            ("block_job_2", "failed"),
        ):
            self.assertEqual(("record", "warning"), self.decision(type, detail), type)

    def errors(self, count, kind="io_error", detail="report", device="virtio-disk1", every=1.0):
        """Return the decisions on a number of errors of one disk."""
        found = []
        for number in range(count):
            seen = base.event(kind, detail, device=device)
            at = seen.occurred_at + round(number * every * 1_000_000)
            decided = self.filters.decide(dataclasses.replace(seen, occurred_at=at))
            found.append((decided.action, decided.severity, decided.rule))
        return found

    def test_disk_that_fails_repeatedly_opens_an_incident(self):
        for kind, rule in (
            ("io_error", "io-error-handed-to-guest"),
            ("block_io_error", "qemu-details"),
        ):
            first = [("record", "warning", rule)] * 9
            then = [("incident", "critical", "io-errors-repeat")]
            self.assertEqual(first + then * 2, self.errors(11, kind, device=kind))

    def test_disk_that_fails_rarely_is_recorded(self):
        rare = self.errors(50, every=7)
        self.assertEqual({("record", "warning", "io-error-handed-to-guest")}, set(rare))

    def test_errors_of_each_disk_are_counted_separately(self):
        found = self.errors(9, device="a") + self.errors(9, device="b")
        self.assertEqual({"record"}, {action for action, _, _ in found})

    def test_disk_error_that_pauses_opens_an_incident_at_once(self):
        self.assertEqual("io-error-paused", self.errors(1, detail="pause")[0][2])

    def test_failed_migration_is_recorded_on_its_target(self):
        for detail in ("failed", "vanished", "destroyed"):
            decided = self.decision("lifecycle.stopped", detail, was_arriving=True)
            self.assertEqual(("record", "warning"), decided)

    def test_stop_by_host_shutdown_is_recorded(self):
        for type, detail in (("lifecycle.stopped", "failed"), ("process.exited", "")):
            decided = self.decision(type, detail, host_going_down=True)
            self.assertEqual(("record", "warning"), decided)

    def test_planned_operation_is_recorded(self):
        for type, detail in (
            ("lifecycle.stopped", "from_snapshot"),
            ("lifecycle.started", "booted"),
            ("lifecycle.resumed", "unpaused"),
            ("lifecycle.suspended", "from_snapshot"),
            ("lifecycle.pmsuspended", "memory"),
            ("lifecycle.defined", "added"),
            ("lifecycle.undefined", "removed"),
            ("device_added", ""),
            ("device_removed", ""),
            ("metadata_change", ""),
            ("block_job", "completed"),
        ):
            self.assertEqual(("record", "info"), self.decision(type, detail), type)
            rule = self.filters.decide(base.event(type, detail)).rule
            self.assertNotEqual("default", rule, type)

    def test_frequent_event_is_ignored(self):
        for type in ("rtc_change", "balloon_change", "graphics", "tray_change"):
            self.assertEqual("ignore", self.decision(type)[0], type)
        self.assertEqual("ignore", self.decision("block_job_2", "ready")[0])

    def test_every_libvirt_event_type_has_a_rule(self):
        types = [kind.name for kind in tables.CALLBACKS if kind.name != "lifecycle"]
        types += [f"lifecycle.{word}" for word, _ in tables.LIFECYCLE]
        for type in types:
            decided = self.filters.decide(base.event(type, "whatever"))
            if type != "lifecycle.stopped":
                self.assertNotEqual("default", decided.rule, type)

    def test_every_detail_is_known_to_libvirt(self):
        """A name that is misspelt here would silently match nothing."""
        known = {word for _, words in tables.LIFECYCLE for word in words}
        known |= {word for _, words in tables.DOMAIN_STATES for word in words}
        known |= {*tables.WATCHDOG_ACTION, *tables.IO_ERROR_ACTION, *tables.BLOCK_JOB_STATUS}
        known |= {"vanished", "error"}  # the agent's word, and nova's
        for rows in (self.filters.rows, self.policies.rows):
            for row in rows:
                for matchers in row.match.alternatives:
                    for matcher in matchers:
                        if matcher.field == "detail":
                            self.assertLessEqual(matcher.wanted, known, row.name)

    def test_unknown_event_is_recorded(self):
        self.assertEqual(("record", "info"), self.decision("unknown-99", "unknown-7"))
        self.assertEqual(("record", "info"), self.decision("lifecycle.stopped", "unknown-77"))

    def test_agent_event_is_recorded(self):
        self.assertEqual(("record", "info"), self.decision("recovery.running", source="agent"))
        self.assertEqual(
            ("record", "info"), self.decision("lifecycle.stopped", "failed", source="agent")
        )

    def test_process_exit_without_a_cause_opens_an_incident(self):
        decided = self.filters.decide(base.event("process.exited", source="process", pid=7))
        self.assertEqual(
            ("incident", "critical", "process-ended", ()), dataclasses.astuple(decided)
        )

    def test_explained_process_exit_is_recorded(self):
        for known in (
            {"follows": "lifecycle.stopped/destroyed"},
            {"was_arriving": True},
            {"replaced": True},
        ):
            self.assertEqual("record", self.decision("process.exited", **known)[0], known)

    def test_nova_event_has_the_expected_action(self):
        for type, detail, wanted in (
            ("nova.power_off", "start", ("record", "info")),
            ("nova.lock", "", ("record", "info")),
            ("nova.reboot", "error", ("record", "warning")),
            ("nova.error", "state", ("record", "warning")),
            ("nova.error", "exception", ("record", "warning")),
            ("nova.exists", "", ("ignore", "info")),
            ("nova.update", "state", ("ignore", "info")),
        ):
            decided = self.decision(type, detail, source="nova_notifications")
            self.assertEqual(wanted, decided, type)

    def test_resolving_event_is_recorded(self):
        for type in events.RUNNING_AGAIN:
            self.assertEqual("record", self.decision(type)[0])


class PathTest(base.RulesTest):
    def test_sample_files_are_the_shipped_files(self):
        root = os.path.dirname(os.path.dirname(os.path.dirname(defaults.__path__[0])))
        for name in (
            *(defaults.EVENT_FILTERS, defaults.RECOVERY_POLICIES),
            defaults.OPENSTACK_POLICIES,
        ):
            sample = os.path.join(root, "etc", "vmmonitor", name)
            self.assertEqual(os.path.realpath(defaults.path(name)), os.path.realpath(sample))
