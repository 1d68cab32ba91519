# SPDX-License-Identifier: Apache-2.0
"""Test that a receiver can recognize the repetition of a request without a response."""

import dataclasses
import json
from typing import Any

from vmmonitor.model.recovery import Recovery
from vmmonitor.testing import builders
from vmmonitor.tests.functional.drivers.test_webhook import WebhookTest

RECOVERY = builders.request().recovery


class TestIds(WebhookTest):
    def posted(self, *recoveries: Recovery) -> list[dict[str, Any]]:
        receiver = self.receiver()
        for recovery in recoveries:
            self.recover(builders.request(recovery=recovery))
        return [json.loads(received.body) for received in receiver.received]

    def test_attempt_after_one_without_response_has_the_same_id(self):
        second = dataclasses.replace(RECOVERY, recovery_id="r2", attempt=2)
        posted = self.posted(RECOVERY, second)
        self.assertEqual(1, len({event["id"] for event in posted}))
        self.assertEqual([1, 2], [event["attempt"] for event in posted])

    def test_attempt_after_a_response_has_another_id(self):
        again = dataclasses.replace(RECOVERY, attempt=2, failure_number=2)
        (event,) = self.posted(again)
        self.assertEqual(f"{builders.incident().incident_id}/2", event["id"])

    def test_only_a_response_of_the_receiver_is_an_answer(self):
        for status, answered in ((500, True), (400, True), (502, False), (504, False)):
            self.receiver().answer = lambda request, status=status: request.send_error(status)
            self.assertEqual(answered, self.recover().answered, status)
