# SPDX-License-Identifier: Apache-2.0
"""What an engine may ask of an agent, and what it is answered."""

import dataclasses

import testtools

from vmmonitor.agent.endpoint import Endpoint
from vmmonitor.agent.inventory import Inventory
from vmmonitor.model.errors import InvalidMessage
from vmmonitor.model.event import AGENT_SOURCE, RUNNING_AGAIN
from vmmonitor.rpc import wire
from vmmonitor.tests.unit.agent.base import UUID, Clock, raw


@dataclasses.dataclass
class Result:
    ok: bool
    action: str = "started"
    message: str = "it was started and runs"


class Actions:
    """Does what it is told, and remembers what it was asked."""

    def __init__(self, result):
        self.result = result
        self.asked = []

    def recover(self, *question):
        self.asked.append(question)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


class Pipeline:
    """Remembers what was observed."""

    def __init__(self):
        self.observed = []
        self.observe = self.observed.append


class EndpointTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.inventory = Inventory({})
        self.inventory.learn(raw("lifecycle.stopped/failed"))
        self.pipeline = Pipeline()

    def ask(self, result, **changes):
        self.actions = result and Actions(result)
        endpoint = Endpoint(self.actions, self.inventory, self.pipeline, Clock())
        request = {
            "schema": wire.SCHEMA,
            "instance_uuid": UUID,
            "recovery_id": "r1",
            "timeout": 5,
        } | changes
        return endpoint.recover_instance({}, request)

    def test_what_was_brought_back_is_told_as_an_event_too(self):
        answer = self.ask(Result(ok=True))
        self.assertEqual((True, "started"), (answer["ok"], answer["action"]))
        self.assertEqual(wire.SCHEMA, answer["schema"])
        self.assertEqual([(UUID, self.inventory.get(UUID), 5.0)], self.actions.asked)
        (event,) = self.pipeline.observed
        self.assertEqual((AGENT_SOURCE, UUID), (event.source, event.instance.uuid))
        self.assertIn(event.type, RUNNING_AGAIN)
        self.assertEqual("r1", event.attributes["recovery_id"])
        self.assertEqual(Clock().time, event.occurred_at)

    def test_a_failure_is_an_answer_and_no_event(self):
        answer = self.ask(Result(ok=False, message="the storage error is not over"))
        self.assertEqual("the storage error is not over", answer["message"])
        self.assertEqual([], self.pipeline.observed)

    def test_where_it_is_not_allowed_nothing_is_done(self):
        answer = self.ask(None)
        self.assertEqual((False, False), (answer["ok"], answer["retry"]))
        self.assertIn("allow_recovery", answer["message"])
        self.assertEqual([], self.pipeline.observed)

    def test_an_error_is_the_callers(self):
        self.assertRaises(ZeroDivisionError, self.ask, ZeroDivisionError("a bug"))
        self.assertEqual([], self.pipeline.observed)

    def test_a_request_that_makes_no_sense_is_refused(self):
        for wrong in (
            {"schema": 99},
            {"timeout": None},
            {"timeout": "soon"},
            {"timeout": float("nan")},
            {"timeout": float("inf")},
            {"timeout": 0},
            {"timeout": -1},
        ):
            self.assertRaises(InvalidMessage, self.ask, Result(ok=True), **wrong)
            self.assertEqual([], self.actions.asked)
        endpoint = Endpoint(None, self.inventory, self.pipeline, Clock())
        for request in (None, [], "x", {"schema": wire.SCHEMA}):
            self.assertRaises(InvalidMessage, endpoint.recover_instance, {}, request)
