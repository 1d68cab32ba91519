# SPDX-License-Identifier: Apache-2.0
"""Test nova's notifications over RabbitMQ: unstored messages stay in the broker."""

from vmmonitor.rpc import notifications
from vmmonitor.testing.deadline import eventually
from vmmonitor.tests.fixtures.services import RabbitMQ
from vmmonitor.tests.functional.sources.test_nova_notifications import NovaCase
from vmmonitor.tests.unit.sources.test_nova_payloads import RECORDED

MESSAGE = RECORDED["instance.pause.start"]
COUNT = notifications.PREFETCH * 4
PATIENCE = 60.0


class RabbitTest(NovaCase):
    def connect(self) -> None:
        self.rabbit = self.useFixture(RabbitMQ())
        self.url = self.rabbit.url

    def flood(self) -> set[str]:
        """Send many messages; return their ids."""
        sender = self.sender()
        self.addCleanup(sender.cleanup)
        ids = {f"message-{number}" for number in range(COUNT)}
        self.send(*({**MESSAGE, "message_id": one} for one in sorted(ids)), transport=sender)
        return ids

    def test_unread_notifications_stay_in_broker(self):
        """A source that cannot store reads few messages, and returns them when it stops."""
        self.full.clear()
        first = self.source()
        self.flood()
        eventually(self.events, PATIENCE, "the first is seen")
        self.full.set()
        first.stop()
        taken = len(self.events())
        self.assertLess(taken, COUNT)
        self.source()
        eventually(
            lambda: len({one.event_id for one in self.events()}) == COUNT,
            PATIENCE,
            "everything came, to the first or to the next",
        )

    def test_source_reconnects_after_broker_restart(self):
        self.source()
        self.rabbit.restart()
        sender = self.sender()
        self.addCleanup(sender.cleanup)

        def sent() -> bool:
            self.send(MESSAGE, transport=sender)
            return bool(self.events())

        eventually(sent, PATIENCE, "it listens again")
