# SPDX-License-Identifier: Apache-2.0
"""Nova's notifications over the in-process bus: what is taken, set aside, waited for."""

import threading
from typing import Any

import oslo_messaging
import testtools

from vmmonitor import conf as configuration
from vmmonitor.model.event import RawEvent, Reachability
from vmmonitor.rpc import notifications
from vmmonitor.sources.nova_notifications import NovaNotifications
from vmmonitor.testing.deadline import eventually
from vmmonitor.tests.fixtures.bus import Bus
from vmmonitor.tests.unit.sources.test_nova_payloads import NOW, RECORDED

TOPIC = "versioned_notifications"


class NovaCase(testtools.TestCase):
    url = "fake://"

    def setUp(self) -> None:
        super().setUp()
        self.conf = configuration.new([], files=[])
        self.connect()
        self.conf.set_override("transport_url", self.url, "nova_notifications")
        self.seen: list[Any] = []
        self.full = threading.Event()
        self.full.set()

    def connect(self) -> None:
        self.useFixture(Bus(self.conf))

    def observe(self, observation: Any) -> None:
        self.seen.append(observation)
        if isinstance(observation, RawEvent):
            self.full.wait(30)

    def source(self) -> NovaNotifications:
        made = NovaNotifications(self.conf, self.observe, now=lambda: NOW)
        made.start()
        self.addCleanup(made.stop)
        self.addCleanup(self.full.set)
        eventually(lambda: self.seen, what="it listens")
        return made

    def sender(self) -> oslo_messaging.Transport:
        return notifications.transport_of(self.conf, self.url)

    def send(self, *messages: Any, transport: Any = None) -> None:
        """Send messages as they are, whatever they are."""
        sender = transport or self.sender()
        for message in messages:
            priority = message.get("priority") if isinstance(message, dict) else None
            target = oslo_messaging.Target(topic=f"{TOPIC}.{priority or 'info'}", exchange="nova")
            context = message.get("context") if isinstance(message, dict) else {}
            sender._send_notification(target, context or {}, message, version=2.0)

    def events(self) -> list[RawEvent]:
        return [one for one in self.seen if isinstance(one, RawEvent)]

    def causes(self) -> list[str]:
        return [f"{one.type}/{one.detail}" for one in self.events()]

    def eventually_causes(self, *wanted: str) -> None:
        eventually(lambda: len(self.events()) >= len(wanted), what=f"{wanted} are seen")
        self.assertEqual(list(wanted), self.causes())


class BusTest(NovaCase):
    def test_what_nova_tells_is_observed_in_order(self):
        self.source()
        self.assertEqual([True], [one.reachable for one in self.seen])
        names = ["instance.power_off.start", "instance.power_off.end", "instance.power_on.start"]
        self.send(*(RECORDED[name] for name in names))
        self.eventually_causes("nova.power_off/start", "nova.power_off/end", "nova.power_on/start")
        first = self.events()[0]
        self.assertEqual("admin", first.attributes["by_user"])
        self.assertEqual("compute-1", first.host)

    def test_errors_come_too(self):
        self.source()
        self.send(RECORDED["start_instance"])
        self.eventually_causes("nova.error/exception")

    def test_an_exception_is_of_the_instance_of_its_request(self):
        source = self.source()
        before = RECORDED["instance.power_on.start before compute.exception"]
        self.send(before)
        self.eventually_causes("nova.power_on/start")
        self.send(RECORDED["compute.exception"])
        self.eventually_causes("nova.power_on/start", "nova.error/exception")
        first, second = self.events()
        self.assertEqual(first.instance, second.instance)
        self.assertEqual("HypervisorUnavailable", second.attributes["exception"])
        self.assertEqual(0, source.counts["unreadable"])

    def test_an_exception_of_an_unknown_request_is_of_no_instance(self):
        source = self.source()
        self.send(RECORDED["compute.exception"], RECORDED["service.update"])
        eventually(lambda: source.counts["of no instance"] == 2)
        self.assertEqual([], self.events())

    def test_what_cannot_be_read_is_set_aside_and_not_in_the_way(self):
        source = self.source()
        good = RECORDED["instance.pause.start"]
        bad = [
            {**good, "payload": None},
            {**good, "payload": {"secret": "hunter2"}},
            {**good, "payload": {"uuid": "x" * (1 << 20)}},
            {**good, "event_type": 7},
            {**good, "publisher_id": {"a": 1}, "payload": []},
            {},
        ]
        self.send(*bad, good)
        self.eventually_causes("nova.pause/start")
        self.assertEqual({"unreadable": 6, "of instances": 1}, dict(source.counts))
        self.assertEqual(6, len(source.unreadable))
        kept = repr(source.unreadable)
        self.assertIn("secret", kept)
        self.assertNotIn("hunter2", kept)
        self.assertLess(len(kept), 6 * 2000)

    def test_what_is_set_aside_is_bounded(self):
        source = self.source()
        self.send(*({"event_type": f"instance.{number}", "payload": {}} for number in range(150)))
        eventually(lambda: source.counts["unreadable"] == 150)
        self.assertEqual(20, len(source.unreadable))
        self.assertEqual(100, len(source._logged_kinds))
        self.assertIn("instance.149", source.unreadable[-1]["message"])

    def test_a_message_of_no_priority_is_not_given_again_for_ever(self):
        """With it the library's own dispatcher fails, before anybody looks into the message."""
        source = self.source()
        self.send({**RECORDED["instance.pause.start"], "priority": None})
        self.eventually_causes("nova.pause/start")
        self.send(RECORDED["instance.pause.end"])
        self.eventually_causes("nova.pause/start", "nova.pause/end")
        self.assertEqual(2, source.counts["of instances"])

    def test_others_have_a_copy_of_their_own(self):
        self.source()
        self.conf.set_override("pool", "somebody-else", "nova_notifications")
        self.source()
        self.send(RECORDED["instance.pause.start"])
        eventually(lambda: len(self.events()) == 2)
        one, other = self.events()
        self.assertEqual(one.event_id, other.event_id)

    def test_a_source_that_waits_stops_in_time(self):
        source = self.source()
        self.full.clear()
        self.send(RECORDED["instance.pause.start"])
        self.eventually_causes("nova.pause/start")
        done = threading.Thread(target=source.stop, daemon=True)
        done.start()
        self.full.set()
        done.join(10)
        self.assertFalse(done.is_alive())

    def test_stopped_before_it_listens(self):
        made = NovaNotifications(self.conf, self.observe)
        made.stop()

    def test_an_address_that_is_none(self):
        self.conf.set_override("transport_url", "nonsense://", "nova_notifications")
        self.source()
        (word,) = self.seen
        self.assertIsInstance(word, Reachability)
        self.assertFalse(word.reachable)
        self.assertIn("not the address of a broker", word.reason)

    def test_trouble_is_told_once(self):
        source = NovaNotifications(self.conf, self.observe)
        for reason in ("refused", "refused", "", "", "refused"):
            source._report_reachability(reason)
        self.assertEqual(["refused", "", "refused"], [one.reason for one in self.seen])
