# SPDX-License-Identifier: Apache-2.0
"""What an engine may ask of an agent, and what it is answered."""

import dataclasses

import testtools

from vmmonitor.agent.endpoint import HostEndpoint
from vmmonitor.agent.inventory import Inventory
from vmmonitor.model.errors import InvalidMessage
from vmmonitor.model.event import AGENT_SOURCE, RUNNING_AGAIN
from vmmonitor.rpc import fields
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
        #: What it says of an end by force.
        self.ending = []

    def recover(self, *question, ending, **more):
        self.asked.append((*question, more))
        for begun in self.ending:
            ending(begun)
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
        endpoint = HostEndpoint(self.actions, self.inventory, self.pipeline, Clock())
        request = {
            "schema": fields.SCHEMA,
            "instance_uuid": UUID,
            "recovery_id": "r1",
            "timeout": 5,
        } | changes
        return endpoint.recover_instance({}, request)

    def test_what_was_brought_back_is_told_as_an_event_too(self):
        answer = self.ask(Result(ok=True))
        self.assertEqual((True, "started"), (answer["ok"], answer["action"]))
        self.assertEqual(fields.SCHEMA, answer["schema"])
        more = {"cause": "", "recovery_id": "r1", "ended": False}
        self.assertEqual([(UUID, self.inventory.get(UUID), 5.0, more)], self.actions.asked)
        (event,) = self.pipeline.observed
        self.assertEqual((AGENT_SOURCE, UUID), (event.source, event.instance.uuid))
        self.assertIn(event.type, RUNNING_AGAIN)
        self.assertEqual("r1", event.attributes["recovery_id"])
        self.assertEqual(Clock().time, event.occurred_at)

    def test_the_cause_is_passed_on(self):
        self.ask(Result(ok=False), cause="liveness.hung/monitor")
        self.assertEqual("liveness.hung/monitor", self.actions.asked[0][-1]["cause"])

    def test_an_end_by_force_is_told_before_it_comes(self):
        actions = Actions(Result(ok=False))
        actions.ending = [True, False]
        endpoint = HostEndpoint(actions, self.inventory, self.pipeline, Clock())
        endpoint.recover(UUID, "r1", 5.0, "liveness.hung/monitor")
        told = [(event.source, event.type, event.detail) for event in self.pipeline.observed]
        kind = (AGENT_SOURCE, "recovery.ending")
        self.assertEqual([(*kind, "begun"), (*kind, "failed")], told)
        expected = {"recovery_id": "r1", "cause": "liveness.hung/monitor"}
        self.assertEqual(expected, self.pipeline.observed[0].attributes)
        self.inventory.learn(self.pipeline.observed[0])
        endpoint.recover(UUID, "r2", 5.0, "")
        self.assertTrue(actions.asked[-1][-1]["ended"])

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
            {"cause": None},
            {"cause": ["liveness.hung"]},
            {"cause": "x" * 513},
        ):
            self.assertRaises(InvalidMessage, self.ask, Result(ok=True), **wrong)
            self.assertEqual([], self.actions.asked)
        endpoint = HostEndpoint(None, self.inventory, self.pipeline, Clock())
        for request in (None, [], "x", {"schema": fields.SCHEMA}):
            self.assertRaises(InvalidMessage, endpoint.recover_instance, {}, request)
