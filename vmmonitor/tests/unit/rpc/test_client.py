# SPDX-License-Identifier: Apache-2.0
"""Calls that a false receiver beside the true one gets in its turn."""

import oslo_messaging

from vmmonitor.model.errors import Retriable
from vmmonitor.rpc import client
from vmmonitor.rpc.client import REPETITIONS, CallClient
from vmmonitor.rpc.signing import NotAuthentic
from vmmonitor.tests.unit.rpc.test_signing import ANSWER, BATCH, SigningCase


class Receivers:
    """Receivers of one queue: false ones answer the first calls, and a true one the rest."""

    def __init__(self, guard, false):
        self.guard = guard
        self.false = false
        self.calls = 0
        self.timeouts = []

    def prepare(self, **options):
        self.timeouts.append(options["timeout"])
        return self

    def call(self, context, method, **arguments):
        self.calls += 1
        if self.calls <= self.false:
            return ANSWER
        admission = self.guard.admit(method, context, arguments)
        return self.guard.sign(method, admission, ANSWER)


class RepeatedCallTest(SigningCase):
    def call(self, false):
        receivers = Receivers(self.guard, false)
        self.patch(oslo_messaging, "get_rpc_client", lambda *_args, **_options: receivers)
        try:
            return CallClient(None, None, self.signer).call("a", "report_events", 1, **BATCH)
        finally:
            self.calls = receivers.calls

    def test_call_that_false_receivers_answer_reaches_the_true_one(self):
        for false in range(REPETITIONS + 1):
            self.assertEqual(ANSWER["receipts"], self.call(false)["receipts"])
            self.assertEqual(false + 1, self.calls)

    def test_call_that_only_false_receivers_answer_fails(self):
        self.assertRaises(NotAuthentic, self.call, REPETITIONS + 1)
        self.assertEqual(REPETITIONS + 1, self.calls)

    def test_slow_false_receivers_do_not_prolong_a_call(self):
        now = [0.0]
        receivers = Receivers(self.guard, REPETITIONS)
        answer = receivers.call

        def answer_late(*args, **kwargs):
            now[0] += 0.6
            return answer(*args, **kwargs)

        receivers.call = answer_late
        self.patch(oslo_messaging, "get_rpc_client", lambda *_args, **_options: receivers)
        self.patch(client.time, "monotonic", lambda: now[0])
        caller = CallClient(None, None, self.signer)
        self.assertRaises(NotAuthentic, caller.call, "a", "report_events", 1.0, **BATCH)
        self.assertEqual([1.0, 0.4], [round(each, 6) for each in receivers.timeouts])

    def test_call_without_an_answer_is_not_repeated(self):
        def time_out(*_args, **_kwargs):
            self.asked += 1
            raise oslo_messaging.MessagingTimeout

        self.asked = 0
        receivers = Receivers(self.guard, 0)
        receivers.call = time_out
        self.patch(oslo_messaging, "get_rpc_client", lambda *_args, **_options: receivers)
        caller = CallClient(None, None, self.signer)
        self.assertRaises(Retriable, caller.call, "a", "report_events", 1, **BATCH)
        self.assertEqual(1, self.asked)
