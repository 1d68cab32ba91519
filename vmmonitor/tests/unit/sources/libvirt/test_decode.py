# SPDX-License-Identifier: Apache-2.0
"""Whatever libvirt says becomes words that JSON can hold."""

import json

import hypothesis
import testtools
from hypothesis import strategies

from vmmonitor.sources.libvirt import decode

UUID = "c7a1a0f4-6d4b-4bd1-8a1a-1d4e3b0f7c11"

values = strategies.recursive(
    strategies.none()
    | strategies.booleans()
    | strategies.integers()
    | strategies.floats()
    | strategies.text()
    | strategies.text(strategies.characters())
    | strategies.binary()
    | strategies.just(object()),
    lambda inner: (
        strategies.lists(inner)
        | strategies.tuples(inner, inner)
        | strategies.dictionaries(strategies.text() | strategies.integers(), inner)
    ),
)


DISK = {"path": "/a", "device": "virtio0"}
END = {"family": "ipv4", "node": "::1", "service": "1"}
#: (event id, the callback's arguments, what they become)
SAMPLES = (
    (1, (), ("reboot", "", {})),
    (2, (-3600,), ("rtc_change", "", {"offset": -3600})),
    (3, (6,), ("watchdog", "inject-nmi", {})),
    (4, ("/a", "virtio0", 1), ("io_error", "pause", DISK)),
    (
        5,
        (2, {**END, "family": 0}, {**END, "family": 9}, "vnc", [("x509", "cn")]),
        (
            "graphics",
            "disconnect",
            {
                "local": END,
                "remote": {**END, "family": "unknown-9"},
                "auth_scheme": "vnc",
                "subject": [["x509", "cn"]],
            },
        ),
    ),
    (
        6,
        ("/a", "virtio0", 2, "enospc"),
        ("io_error_reason", "report", {**DISK, "reason": "enospc"}),
    ),
    (7, (), ("control_error", "", {})),
    (8, ("/a", 3, 1), ("block_job", "failed", {"path": "/a", "job": "commit"})),
    (
        9,
        ("/a", None, "hdc", 1),
        (
            "disk_change",
            "drop_missing_on_start",
            {"old_path": "/a", "new_path": None, "device": "hdc"},
        ),
    ),
    (10, ("hdc", 1), ("tray_change", "close", {"device": "hdc"})),
    (11, (0,), ("pmwakeup", "", {"reason": 0})),
    (13, (1024,), ("balloon_change", "", {"actual_kib": 1024})),
    (15, ("net0",), ("device_removed", "", {"device": "net0"})),
    (16, ("vda", 2, 3), ("block_job_2", "ready", {"disk": "vda", "job": "copy"})),
    (17, ({"blkio.weight": 5},), ("tunable", "", {"blkio.weight": 5})),
    (18, (2, 2), ("agent_lifecycle", "disconnected", {"reason": "channel"})),
    (20, (3,), ("migration_iteration", "", {"iteration": 3})),
    (
        21,
        ({"operation": 5, "time_elapsed": 12, "success": 1},),
        ("job_completed", "migration_out", {"time_elapsed": 12, "success": 1}),
    ),
    (23, (2, "http://x"), ("metadata_change", "element", {"uri": "http://x"})),
    (
        24,
        ("vda", None, 10, 2),
        (
            "block_threshold",
            "",
            {"disk": "vda", "path": None, "threshold": 10, "excess": 2},
        ),
    ),
    (
        25,
        (1, 3, 3),
        (
            "memory_failure",
            "reset",
            {"recipient": "guest", "flags": ["action_required", "recursive"]},
        ),
    ),
    (
        27,
        ("net0", "a", "b"),
        ("nic_mac_change", "", {"device": "net0", "old_mac": "a", "new_mac": "b"}),
    ),
)


def decoded(event_id, *arguments):
    """An event's type, detail and attributes."""
    event = decode.decode_event(event_id, UUID, "guest", arguments, 7)
    return event.type, event.detail, event.attributes


class DecodeTest(testtools.TestCase):
    def test_who_and_when(self):
        event = decode.decode_event(1, UUID, "guest", (), 1_790_000_000_000_001)
        self.assertEqual("libvirt", event.source)
        self.assertEqual(UUID, event.instance.uuid)
        self.assertEqual("guest", event.instance.hypervisor_name)
        self.assertEqual(1_790_000_000_000_001, event.occurred_at)
        self.assertIsNone(event.seen)

    def test_lifecycle(self):
        for numbers, type_, detail in (
            ((0, 0), "defined", "added"),
            ((2, 0), "started", "booted"),
            ((2, 1), "started", "migrated"),
            ((3, 0), "suspended", "paused"),
            ((3, 1), "suspended", "migrated"),
            ((3, 2), "suspended", "ioerror"),
            ((3, 3), "suspended", "watchdog"),
            ((4, 0), "resumed", "unpaused"),
            ((4, 1), "resumed", "migrated"),
            ((5, 0), "stopped", "shutdown"),
            ((5, 1), "stopped", "destroyed"),
            ((5, 2), "stopped", "crashed"),
            ((5, 3), "stopped", "migrated"),
            ((5, 4), "stopped", "saved"),
            ((5, 5), "stopped", "failed"),
            ((6, 1), "shutdown", "guest"),
            ((6, 2), "shutdown", "host"),
            ((8, 0), "crashed", "panicked"),
            ((8, 1), "crashed", "crashloaded"),
        ):
            self.assertEqual((f"lifecycle.{type_}", detail, {}), decoded(0, *numbers))

    def test_each_kind_keeps_its_arguments(self):
        for event_id, arguments, expected in SAMPLES:
            self.assertEqual(expected, decoded(event_id, *arguments))

    def test_unknown_numbers_get_a_name(self):
        self.assertEqual(("unknown-99", "", {"argument_0": 5}), decoded(99, 5))
        self.assertEqual(("unknown--1", "", {}), decoded(-1))
        self.assertEqual(("lifecycle.unknown-9", "unknown-1", {}), decoded(0, 9, 1))
        self.assertEqual(("lifecycle.stopped", "unknown-42", {}), decoded(0, 5, 42))
        self.assertEqual(("watchdog", "unknown-7", {}), decoded(3, 7))
        self.assertEqual(["unknown-3"], decoded(25, 0, 0, 8)[2]["flags"])

    def test_other_arguments_than_expected_are_kept(self):
        self.assertEqual(
            ("lifecycle.stopped", "failed", {"argument_0": "x"}), decoded(0, 5, 5, "x")
        )
        self.assertEqual(("reboot", "", {"argument_0": 1}), decoded(1, 1))
        self.assertEqual(("io_error", "", {"path": "/a"}), decoded(4, "/a"))
        self.assertEqual(("tunable", "", {"items": 3}), decoded(17, 3))

    def test_values_that_json_cannot_hold(self):
        self.assertEqual("0xffffffffffffffff", decode.to_plain_value(2**64 - 1))
        self.assertEqual(-(2**63), decode.to_plain_value(-(2**63)))
        self.assertEqual("nan", decode.to_plain_value(float("nan")))
        self.assertEqual("a\\xff", decode.to_plain_value(b"a\xff"))
        self.assertEqual("a\\x00b", decode.to_plain_value("a\0b"))
        self.assertEqual({"None": [True, None]}, decode.to_plain_value({None: (True, None)}))

    def test_size_is_bounded(self):
        self.assertEqual(decode.MAX_VALUE_TEXT, len(decode.to_plain_value("x" * 2**20)))
        self.assertEqual(decode.MAX_VALUE_ITEMS, len(decode.to_plain_value([0] * 10_000)))
        deep = []
        for _ in range(5000):
            deep = [deep]
        self.assertIn("<list>", json.dumps(decode.to_plain_value(deep)))

    @hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
    @hypothesis.given(strategies.integers(-3, 40), strategies.lists(values, max_size=6))
    def test_never_an_error(self, event_id, arguments):
        event = decode.decode_event(event_id, UUID, "guest", arguments, 0)
        text = json.dumps(dict(event.attributes), allow_nan=False)
        text.encode()
        event.detail.encode()
        self.assertEqual(json.loads(text), event.attributes)
        self.assertNotEqual("", event.type)

    def test_states(self):
        for numbers, expected in (
            ((0, 0), ("unknown-0", "unknown")),
            ((1, 1), ("running", "booted")),
            ((2, 0), ("running", "blocked")),
            ((3, 5), ("paused", "ioerror")),
            ((4, 1), ("running", "shutting_down")),
            ((5, 3), ("shutoff", "crashed")),
            ((6, 1), ("crashed", "panicked")),
            ((7, 0), ("pmsuspended", "unknown")),
            ((1, 77), ("running", "unknown-77")),
            ((9, 2), ("unknown-9", "unknown-2")),
        ):
            self.assertEqual(expected, decode.decode_state(*numbers))
