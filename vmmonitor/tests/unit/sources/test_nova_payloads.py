# SPDX-License-Identifier: Apache-2.0
"""What nova 34 really sent (``samples/nova_notifications.json``), and what it might send."""

import copy
import json
import pathlib
import unittest
from typing import Any

import hypothesis
from hypothesis import strategies

from vmmonitor.model.errors import InvalidMessage
from vmmonitor.model.event import RawEvent
from vmmonitor.sources.nova_payloads import NovaMessage, decode_message, request_id_of

SAMPLES = pathlib.Path(__file__).parent / "samples" / "nova_notifications.json"
RECORDED: dict[str, Any] = json.loads(SAMPLES.read_text())
NOW = 1_795_364_000_000_000
UUID = "ed7fbb0d-9ab4-4366-be76-4dbdcbbfb7a1"
ADMIN = "d1f0a5c8e4b24b6fa0c3e97c6b1d2e3f"
#: What has no instance: not an event.
NO_INSTANCE = {
    "service.update",
    "service.create",
    "compute.exception",
    "libvirt.connect.error",
    "scheduler.select_destinations.start",
    "flavor.create",
}
#: Where the event's name is not simply that of the notification.
NAMES = {
    "instance.update to a task": ("nova.update", ""),
    "instance.update to error": ("nova.error", "state"),
    "compute.instance.update to error": ("nova.error", "state"),
    "instance.power_off.start by nova itself": ("nova.power_off", "start"),
    "compute.instance.power_off.start by nova itself": ("nova.power_off", "start"),
    "instance.power_on.start before compute.exception": ("nova.power_on", "start"),
    "compute.instance.live_migration._rollback.start": ("nova.live_migration_rollback", "start"),
    "compute.instance.live_migration.pre.start": ("nova.live_migration_pre", "start"),
    "compute.instance.live_migration.rollback.dest.end": (
        "nova.live_migration_rollback_dest",
        "end",
    ),
    "compute.instance.finish_resize.end": ("nova.resize_finish", "end"),
    "compute.instance.resize.prep.start": ("nova.resize_prep", "start"),
    "compute.instance.rebuild.scheduled": ("nova.rebuild_scheduled", ""),
    "start_instance": ("nova.error", "exception"),
}


def notification(message: Any) -> NovaMessage:
    parts = ("event_type", "payload", "context", "message_id", "timestamp")
    return NovaMessage(
        publisher=message.get("publisher_id"), **{part: message.get(part) for part in parts}
    )


def read(name: str, **changes: Any) -> RawEvent:
    """Decode a sample, with other values in its payload."""
    message = copy.deepcopy(RECORDED[name])
    payload = message["payload"]
    payload.get("nova_object.data", payload).update(changes)
    raw = decode_message(notification(message), NOW)
    assert raw is not None
    return raw


def expected_name(name: str) -> tuple[str, str]:
    if name in NAMES:
        return NAMES[name]
    words = name.removeprefix("compute.").removeprefix("instance.").split(".")
    return f"nova.{words[0]}", words[1] if len(words) > 1 else ""


class RecordedTest(unittest.TestCase):
    def test_every_sample_has_its_name_host_and_instance(self):
        for name, message in RECORDED.items():
            raw = decode_message(notification(message), NOW)
            if name in NO_INSTANCE:
                self.assertIsNone(raw, name)
                continue
            self.assertEqual(expected_name(name), (raw.type, raw.detail), name)
            self.assertEqual("nova_notifications", raw.source)
            self.assertRegex(raw.instance.uuid, "^[0-9a-f-]{36}$", name)
            self.assertRegex(raw.instance.name, "^web-[0-9]$", name)
            self.assertRegex(raw.instance.flavor, "^m[0-9]", name)
            self.assertIn(raw.host, ("compute-1", "compute-2"), name)
            self.assertEqual(36, len(raw.event_id))

    def test_both_forms_say_the_same(self):
        versioned = read("instance.power_off.start")
        legacy = read("compute.instance.power_off.start")
        for raw in (versioned, legacy):
            self.assertEqual(("nova.power_off", "start"), (raw.type, raw.detail))
            self.assertEqual(UUID, raw.instance.uuid)
            self.assertEqual("compute-1", raw.host)
            self.assertEqual("m1.nano", raw.instance.flavor)
            self.assertEqual(ADMIN, raw.attributes["by_user_id"])
            self.assertEqual("admin", raw.attributes["by_user"])
            self.assertEqual("active", raw.attributes["vm_state"])
            self.assertRegex(raw.attributes["request_id"], "^req-")
        self.assertNotEqual(versioned.event_id, legacy.event_id)

    def test_the_time_is_novas(self):
        self.assertEqual(1_795_364_818_315_901, read("instance.power_off.start").occurred_at)

    def test_the_same_message_is_the_same_event(self):
        self.assertEqual(read("instance.pause.end").event_id, read("instance.pause.end").event_id)

    def test_nobody_asked_for_what_nova_does_by_itself(self):
        for form in ("instance", "compute.instance"):
            attributes = read(f"{form}.power_off.start by nova itself").attributes
            self.assertEqual(set(), {"by_user", "by_user_id"} & set(attributes))

    def test_of_an_error_what_it_was(self):
        raw = read("instance.update to error")
        self.assertEqual("active", raw.attributes["was"])
        self.assertEqual("error", raw.attributes["vm_state"])

    def test_of_an_error_phase_its_fault(self):
        fault = {"nova_object.data": {"exception": "Oops", "exception_message": "it" * 2000}}
        attributes = read("instance.reboot.start", fault=fault).attributes
        self.assertEqual("Oops", attributes["exception"])
        self.assertEqual(1000, len(attributes["message"]))

    def test_no_token_of_a_legacy_exception_is_kept(self):
        self.assertIn("secret-token", json.dumps(RECORDED["start_instance"]))
        raw = read("start_instance")
        self.assertNotIn("secret-token", repr(raw))
        self.assertEqual("start_instance", raw.attributes["operation"])
        self.assertIn("HypervisorUnavailable", raw.attributes["exception"])

    def test_an_exception_and_what_came_before_have_one_request(self):
        before = RECORDED["instance.power_on.start before compute.exception"]
        exception = RECORDED["compute.exception"]
        self.assertEqual(
            request_id_of(notification(before)), request_id_of(notification(exception))
        )


class MissingTest(unittest.TestCase):
    def test_any_field_of_any_sample_may_be_missing(self):
        for name, message in RECORDED.items():
            payload = message["payload"]
            for field in payload.get("nova_object.data", payload):
                changed = copy.deepcopy(message)
                inner = changed["payload"].get("nova_object.data", changed["payload"])
                del inner[field]
                with self.subTest(name=name, field=field):
                    self.read_or_refuse(changed)
            for part in message:
                changed = {key: value for key, value in message.items() if key != part}
                with self.subTest(name=name, part=part):
                    self.read_or_refuse(changed)

    def read_or_refuse(self, message: Any) -> None:
        try:
            raw = decode_message(notification(message), NOW)
        except InvalidMessage:
            return
        if raw:
            self.assertTrue(raw.type.startswith("nova."))

    def test_what_must_be_there(self):
        good = RECORDED["instance.power_off.start"]
        for changes in (
            {"event_type": None},
            {"event_type": ["instance"]},
            {"payload": None},
            {"payload": "text"},
            {"payload": {}},
            {"payload": {"nova_object.data": 7}},
            {"payload": {"uuid": "../../etc/passwd"}},
            {"payload": {"uuid": "x" * (1 << 20)}},
        ):
            with self.subTest(changes), self.assertRaises(InvalidMessage):
                decode_message(notification({**good, **changes}), NOW)

    def test_without_a_time_it_is_now(self):
        good = RECORDED["instance.power_off.start"]
        for text in (None, 7, "", "soon", "1969-01-01", "9999-12-31T23:59:59", "2026" * 99):
            raw = decode_message(notification({**good, "timestamp": text}), NOW)
            self.assertEqual(NOW, raw.occurred_at, text)

    def test_without_a_host_it_is_that_of_the_publisher(self):
        self.assertEqual("compute-1", read("instance.power_off.start", host=None).host)
        self.assertEqual("compute-1", read("compute.instance.power_off.start", host=None).host)

    def test_an_operation_of_the_future(self):
        good = RECORDED["instance.power_off.start"]
        for event_type, wanted in (
            ("instance.teleport.start", ("nova.teleport", "start")),
            ("instance.teleport.half", ("nova.teleport_half", "")),
            ("instance.", ("nova.unknown", "")),
            ("instance.Ü\x00'; drop.end", ("nova.drop", "end")),
            ("instance." + "x" * 9000, ("nova." + "x" * 48, "")),
        ):
            raw = decode_message(notification({**good, "event_type": event_type}), NOW)
            self.assertEqual(wanted, (raw.type, raw.detail))


JSON = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.text(),
    lambda inner: strategies.lists(inner) | strategies.dictionaries(strategies.text(), inner),
    max_leaves=20,
)


class FuzzTest(unittest.TestCase):
    @hypothesis.settings(max_examples=200, deadline=None, derandomize=True)
    @hypothesis.given(
        strategies.sampled_from(sorted(RECORDED)), strategies.integers(0, 40), JSON, JSON, JSON
    )
    def test_anything_is_read_or_refused(self, name, place, value, part, whole):
        message = copy.deepcopy(RECORDED[name])
        inner = message["payload"].get("nova_object.data", message["payload"])
        inner[sorted(inner)[place % len(inner)]] = value
        message[sorted(message)[place % len(message)]] = part
        for one in (message, {**message, "payload": whole}):
            try:
                raw = decode_message(notification(one), NOW)
            except InvalidMessage:
                continue
            if raw:
                json.dumps(dict(raw.attributes))
                self.assertIsInstance(raw.host, str)
