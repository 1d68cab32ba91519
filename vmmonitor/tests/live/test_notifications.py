# SPDX-License-Identifier: Apache-2.0
"""Test notifications of real failures over RabbitMQ, also during its outage."""

import collections
import signal
import time

from vmmonitor.model.errors import Retriable
from vmmonitor.model.states import IncidentState
from vmmonitor.rpc.notifications import Listener
from vmmonitor.testing.deadline import eventually
from vmmonitor.tests.fixtures.services import RabbitMQ
from vmmonitor.tests.functional.rpc.test_notifier import GROUP, NotifierCase, notification
from vmmonitor.tests.live.base import PATIENCE_S, WholeTest

#: Notifications with the priority INFO for an incident whose instance is recovered.
CALM = {
    "incident.pending",
    "recovery.requested",
    "recovery.running",
    "recovery.succeeded",
    "incident.resolved",
}


class NotifierTest(NotifierCase):
    def connect(self) -> None:
        self.rabbit = self.useFixture(RabbitMQ())
        self.url = self.rabbit.url

    def test_notifier_without_broker_reports_and_reconnects(self):
        heard = self.listen()
        sender = self.sender()
        sender.send(notification())
        eventually(lambda: len(heard) == 1, PATIENCE_S)
        self.rabbit.kill()
        began = time.monotonic()
        for _ in range(3):
            self.assertRaises(Retriable, sender.send, notification())
        self.assertLess(time.monotonic() - began, 30)
        self.rabbit.restart()
        eventually(lambda: self.sends(sender), PATIENCE_S)
        eventually(lambda: len(heard) == 2, PATIENCE_S)

    def sends(self, sender) -> bool:
        try:
            sender.send(notification())
        except Retriable:
            return False
        return True

    def test_notifier_with_full_queue_reports_error(self):
        """The broker reports the error only with publisher confirms."""
        policy = ["set_policy", "full", ".*", '{"max-length":1,"overflow":"reject-publish"}']
        driver = self.rabbit.driver
        driver.rabbitmqctl(f"{driver.nodename}@localhost", [*policy, "--apply-to", "queues"])
        sender = self.sender()

        def is_full() -> bool:
            return not self.sends(sender)

        eventually(is_full, PATIENCE_S, "it is refused")


class WholeWayTest(WholeTest):
    def setUp(self):
        super().setUp()
        self.rabbit = self.useFixture(RabbitMQ())
        self.deploy(
            options={
                "notifications": {"enabled": True},
                GROUP: {"transport_url": self.rabbit.url},
            }
        )
        self.heard = []
        connected = []
        listener = Listener(
            *(self.deployment.conf, self.rabbit.url, "vmmonitor", ["notifications"], ""),
            *(self.heard.append, connected.append),
        )
        listener.start()
        self.addCleanup(listener.stop, 10)
        eventually(lambda: connected == [""], PATIENCE_S, "it listens")
        self.engine = self.start(self.deployment.engine())
        self.watched()

    def crash(self):
        """Kill a guest; return it after its recovery."""
        guest = self.guest(defined=True)
        guest.kill(signal.SIGKILL)
        self.recovered(guest)
        return guest

    def words(self, guest):
        """Return (data, event type) of each notification about a guest."""
        found = [
            (one["payload"]["vmmonitor_object.data"], one["event_type"].partition(".")[2])
            for one in list(self.heard)
        ]
        return [(data, word) for data, word in found if data["instance_uuid"] == guest.uuid]

    def check_notified(self, guest):
        """Check that every state was notified once, in an unbroken sequence."""
        (incident,) = self.deployment.incidents(guest.uuid)
        attempts = self.deployment.recoveries(incident.incident_id)
        ends = {one.recovery_id: one.state for one in attempts}
        ends[incident.incident_id] = incident.state

        def is_complete():
            return {subject: self.end(guest, subject) for subject in ends} == ends

        self.wait(is_complete, "all states notified")
        notified = self.words(guest)
        self.assertEqual(len(notified), len({data["notification_id"] for data, _ in notified}))
        self.assertEqual(
            {("node-1", incident.incident_id)},
            {(data["host"], data["incident_id"]) for data, _ in notified},
        )
        # Notifications of the other priority arrive in a different queue.
        calm = [word for _, word in notified if word in CALM]
        self.assertEqual(("incident.pending", "incident.resolved"), (calm[0], calm[-1]))

    def end(self, guest, subject):
        """Return the last state of an incident or recovery, if all earlier ones were notified."""
        of_it = [
            data
            for data, _ in self.words(guest)
            if data.get("recovery_id", data["incident_id"]) == subject
        ]
        entered = collections.Counter(data["state"] for data in of_it)
        left = collections.Counter(data["old_state"] for data in of_it)
        began, last = left - entered, entered - left
        return "".join(last) if list(began) == [None] and last.total() == 1 else ""

    def test_failure_and_recovery_are_notified(self):
        self.check_notified(self.crash())

    def test_notifications_during_broker_outage_arrive_later(self):
        self.rabbit.kill()
        guest = self.crash()
        self.assertEqual([IncidentState.RESOLVED], self.states(guest))
        self.assertEqual([], self.heard)
        # Another engine sends the notifications of a killed engine.
        self.engine.kill()
        self.rabbit.restart()
        self.start(self.deployment.engine("engine-2"))
        self.check_notified(guest)
