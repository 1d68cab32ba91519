# SPDX-License-Identifier: Apache-2.0
"""Notifications over the in-process bus: what arrives, and what the sender learns of the rest."""

from typing import Any

import fixtures
import oslo_messaging
import testtools

from vmmonitor import conf as configuration
from vmmonitor.engine import service
from vmmonitor.model.errors import Retriable, VmmonitorError
from vmmonitor.model.notification import Notification
from vmmonitor.rpc import notifications, notifier
from vmmonitor.rules import defaults
from vmmonitor.testing.deadline import eventually
from vmmonitor.tests.fixtures import notification_samples as samples
from vmmonitor.tests.fixtures.bus import Bus

GROUP = notifier.GROUP


def notification(name: str = "incident.unrecovered") -> Notification:
    """One of those that the documentation shows."""
    message = samples.messages()[f"vmmonitor.{name}"]
    return Notification(
        incident_id="a",
        event_type=message["event_type"],
        priority=message["priority"].lower(),
        payload=message["payload"],
        created_at=samples.NOON,
    )


class NotifierCase(testtools.TestCase):
    url = "fake://"

    def setUp(self) -> None:
        super().setUp()
        self.conf = configuration.new([], files=[])
        self.conf.set_override("host", "controller-1")
        self.connect()
        notifier.Notifier(self.conf)
        self.conf.set_override("transport_url", self.url, GROUP)

    def connect(self) -> None:
        self.useFixture(Bus(self.conf))

    def sender(self, **options: Any) -> notifier.Notifier:
        for name, value in options.items():
            self.conf.set_override(name, value, GROUP)
        return notifier.Notifier(self.conf)

    def listen(self, topic: str = "notifications") -> list[dict[str, Any]]:
        """Listen as any service does; returns the list that what comes is added to."""
        heard: list[dict[str, Any]] = []
        told: list[str] = []
        listener = notifications.Listener(
            *(self.conf, self.url, "vmmonitor", [topic], ""), heard.append, told.append
        )
        listener.start()
        self.addCleanup(listener.stop, 10)
        eventually(lambda: told == [""], 60, "it listens")
        return heard


class TestNotifier(NotifierCase):
    def test_what_is_sent_arrives_as_the_documentation_shows_it(self):
        heard = self.listen()
        sender = self.sender()
        for name in ("incident.unrecovered", "incident.resolved", "recovery.running"):
            sender.send(notification(name))
        eventually(lambda: len(heard) == 3)
        for one in heard:
            shown = samples.messages()[one["event_type"]]
            self.assertEqual(shown["publisher_id"], one["publisher_id"])
            self.assertEqual(shown["payload"], one["payload"])

    def test_every_topic_gets_it(self):
        heard = self.listen(), self.listen("tickets")
        self.sender(topics=["notifications", "tickets"]).send(notification())
        eventually(lambda: [len(one) for one in heard] == [1, 1])

    def test_what_one_topic_does_not_take_was_not_sent(self):
        sender = self.sender(topics=["tickets", "notifications"])
        heard = self.listen()
        hand_over = sender._send_to_broker

        def refuse(target, *args, **kwargs):
            if target.topic.startswith("tickets"):
                raise oslo_messaging.MessageDeliveryFailure("full\nthe payload")
            hand_over(target, *args, **kwargs)

        sender._send_to_broker = refuse
        logged = self.useFixture(fixtures.FakeLogger())
        error = self.assertRaises(Retriable, sender.send, notification())
        self.assertEqual("full", str(error))
        eventually(lambda: len(heard) == 1)
        # The library would have logged the payload.
        self.assertNotIn("web-1", logged.output)
        # What came before is forgotten.
        sender._send_to_broker = hand_over
        sender.send(notification())
        eventually(lambda: len(heard) == 2)

    def test_another_driver(self):
        logged = self.useFixture(fixtures.FakeLogger())
        self.sender(driver=["log"]).send(notification())
        self.assertIn("vmmonitor.incident.unrecovered", logged.output)

    def test_a_driver_that_is_not_installed(self):
        error = self.assertRaises(VmmonitorError, self.sender, driver=["messaging-v2"])
        self.assertIn("['messaging-v2']", str(error))

    def test_an_address_that_is_none(self):
        error = self.assertRaises(VmmonitorError, self.sender, transport_url="nonsense://")
        self.assertIn("not the address of a broker", str(error))

    def test_what_is_wrong_is_found_before_an_engine_starts_if_it_matters(self):
        self.conf.set_override("driver", ["messaging-v2"], GROUP)
        files = [
            defaults.path(one) for one in (defaults.RECOVERY_POLICIES, defaults.EVENT_FILTERS)
        ]
        service.check(self.conf, *files)
        self.conf.set_override("enabled", True, "notifications")
        self.assertRaises(VmmonitorError, service.check, self.conf, *files)
