# SPDX-License-Identifier: Apache-2.0
"""The requests of an engine to an agent, and their answers."""

import dataclasses

import testtools

from vmmonitor.agent.endpoint import HostEndpoint
from vmmonitor.agent.inventory import Inventory
from vmmonitor.model.errors import InvalidMessage
from vmmonitor.model.event import AGENT_SOURCE, RUNNING_AGAIN
from vmmonitor.model.inspection import Inspection
from vmmonitor.model.order import RecoveryOrder
from vmmonitor.rpc import fields
from vmmonitor.rpc.agent_api import read_inspection
from vmmonitor.testing.builders import RECOVERY_ID
from vmmonitor.tests.unit.agent.base import UUID, Clock, raw


@dataclasses.dataclass
class Result:
    ok: bool
    action: str = "started"
    message: str = "it was started and runs"


class Recoverer:
    """Returns or raises ``result``, and remembers the requests.

    :ivar stops: "begins" and "failed", to be reported to the listener.
    """

    def __init__(self, result, stops=()):
        self.result = result
        self.stops = stops
        self.requests = []

    def recover(self, *request, listener, **more):
        self.requests.append((*request, more))
        for stop in self.stops:
            getattr(listener, f"forced_stop_{stop}")()
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def order(**changes):
    made = RecoveryOrder(
        instance_uuid=UUID, recovery_id=RECOVERY_ID, token=7, expires_at=Clock().time, timeout=5.0
    )
    return dataclasses.replace(made, **changes)


class Sink:
    """Remembers the observations."""

    def __init__(self):
        self.observed = []
        self.observe = self.observed.append


class Inspector:
    """Returns ``found``, and remembers the requests."""

    found = Inspection(state="running", reason="booted", managed=True, process=True, answers=True)

    def __init__(self):
        self.requests = []

    def inspect(self, *request):
        self.requests.append(request)
        return self.found


class Faults:
    """Returns the fault of each instance."""

    def __init__(self, fault=""):
        self.fault = fault

    def find_fault(self, instance_uuid):
        return self.fault


class HostEndpointTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.inventory = Inventory({})
        self.inventory.apply_event(raw("lifecycle.stopped/failed"))
        self.sink = Sink()
        self.inspector = Inspector()
        self.faults = Faults()

    def endpoint(self, recoverer):
        return HostEndpoint(
            recoverer=recoverer,
            inspector=self.inspector,
            faults=self.faults,
            inventory=self.inventory,
            sink=self.sink,
            now=Clock(),
        )

    def request(self, result, **changes):
        self.recoverer = result and Recoverer(result)
        request = {
            "schema": fields.SCHEMA,
            "instance_uuid": UUID,
            "recovery_id": RECOVERY_ID,
            "token": 7,
            "expires_at": Clock().time,
            "timeout": 5,
        } | changes
        return self.endpoint(self.recoverer).recover_instance({}, request)

    def test_successful_recovery_is_an_answer_and_an_event(self):
        answer = self.request(Result(ok=True))
        self.assertEqual((True, "started"), (answer["ok"], answer["action"]))
        self.assertEqual(fields.SCHEMA, answer["schema"])
        more = {"cause": "", "recovery_id": RECOVERY_ID, "stopped_by_recovery": False}
        self.assertEqual([(UUID, self.inventory.get(UUID), 5.0, more)], self.recoverer.requests)
        (event,) = self.sink.observed
        self.assertEqual((AGENT_SOURCE, UUID), (event.source, event.instance.uuid))
        self.assertIn(event.type, RUNNING_AGAIN)
        self.assertEqual(RECOVERY_ID, event.attributes["recovery_id"])
        self.assertEqual(Clock().time, event.occurred_at)

    def test_cause_of_the_failure_reaches_the_recoverer(self):
        self.request(Result(ok=False), cause="liveness.hung/monitor")
        self.assertEqual("liveness.hung/monitor", self.recoverer.requests[0][-1]["cause"])

    def test_forced_stop_is_an_event_that_the_next_recovery_knows(self):
        recoverer = Recoverer(Result(ok=False), stops=["begins", "failed"])
        endpoint = self.endpoint(recoverer)
        endpoint.recover(order(cause="liveness.hung/monitor"))
        events = [(event.source, event.type, event.detail) for event in self.sink.observed]
        kind = (AGENT_SOURCE, "recovery.ending")
        self.assertEqual([(*kind, "begun"), (*kind, "failed")], events)
        expected = {"recovery_id": RECOVERY_ID, "cause": "liveness.hung/monitor"}
        self.assertEqual(expected, self.sink.observed[0].attributes)
        self.inventory.apply_event(self.sink.observed[0])
        endpoint.recover(order(recovery_id="r2"))
        self.assertTrue(recoverer.requests[-1][-1]["stopped_by_recovery"])

    def test_failed_recovery_is_an_answer_without_an_event(self):
        answer = self.request(Result(ok=False, message="the storage error persists"))
        self.assertEqual("the storage error persists", answer["message"])
        self.assertEqual([], self.sink.observed)

    def test_request_is_refused_if_recovery_is_not_allowed(self):
        answer = self.request(None)
        self.assertEqual((False, False), (answer["ok"], answer["retry"]))
        self.assertIn("allow_recovery", answer["message"])
        self.assertEqual([], self.sink.observed)

    def test_unexpected_error_reaches_the_caller(self):
        self.assertRaises(ZeroDivisionError, self.request, ZeroDivisionError("a bug"))
        self.assertEqual([], self.sink.observed)

    def test_malformed_request_is_refused(self):
        for wrong in (
            {"schema": 99},
            {"timeout": None},
            {"timeout": "soon"},
            {"timeout": float("nan")},
            {"timeout": float("inf")},
            {"timeout": 0},
            {"timeout": -1},
            {"token": None},
            {"token": -1},
            {"expires_at": None},
            {"expires_at": 2**62},
            {"instance_uuid": None},
            {"recovery_id": [RECOVERY_ID]},
            {"recovery_id": f"{RECOVERY_ID}\n"},
            {"instance_uuid": "../../etc/passwd"},
            {"instance_uuid": UUID.upper()},
            {"cause": None},
            {"cause": ["liveness.hung"]},
            {"cause": "x" * 513},
        ):
            self.assertRaises(InvalidMessage, self.request, Result(ok=True), **wrong)
            self.assertEqual([], self.recoverer.requests)
        endpoint = self.endpoint(None)
        for request in (None, [], "x", {"schema": fields.SCHEMA}):
            self.assertRaises(InvalidMessage, endpoint.recover_instance, {}, request)
            self.assertRaises(InvalidMessage, endpoint.inspect_instance, {}, request)

    def inspect(self, **changes):
        request = {"schema": fields.SCHEMA, "instance_uuid": UUID, "timeout": 1} | changes
        return self.endpoint(None).inspect_instance({}, request)

    def test_inspection_is_answered_although_recovery_is_not_allowed(self):
        answer = self.inspect()
        self.assertEqual(Inspector.found, read_inspection(answer))
        self.assertEqual([(UUID, 1.0, "")], self.inspector.requests)

    def test_inspection_knows_the_fault_that_a_source_has_found(self):
        self.faults = Faults("stalled/failed")
        self.inspect()
        self.assertEqual([(UUID, 1.0, "stalled/failed")], self.inspector.requests)
