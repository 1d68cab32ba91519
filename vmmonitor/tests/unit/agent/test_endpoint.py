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
from vmmonitor.tests.unit.agent.test_permits import SECOND, PermitFixture


@dataclasses.dataclass
class Result:
    ok: bool
    action: str = "started"
    message: str = "it was started and runs"


class Recoverer:
    """Returns or raises ``result``, and remembers the requests.

    :ivar stops: "begins" and "failed", to be reported to the listener.
    """

    happens = ""
    in_progress = False

    def is_recovering(self, instance_uuid):
        return self.in_progress

    def __init__(self, result, stops=()):
        self.result = result
        self.stops = stops
        self.requests = []

    def recover(self, *request, listener, permit, **more):
        self.requests.append((*request, more))
        self.obstacle = permit.find_obstacle()
        if self.happens:
            permit.effect_done(self.happens)
        for stop in self.stops:
            getattr(listener, f"forced_stop_{stop}")()
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


#: Id of a recovery that no engine has.
INVENTED = "00000000-0000-4000-8000-000000000000"


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


class EndpointCase(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.inventory = Inventory({})
        self.inventory.apply_event(raw("lifecycle.stopped/failed"))
        self.sink = Sink()
        self.inspector = Inspector()
        self.host = PermitFixture(Clock().time - 60 * SECOND)
        self.permits = self.host.permits
        self.faults = Faults()

    def endpoint(self, recoverer):
        return HostEndpoint(
            recoverer=recoverer,
            permits=self.permits,
            inspector=self.inspector,
            faults=self.faults,
            inventory=self.inventory,
            sink=self.sink,
            now=Clock(),
        )


class HostEndpointTest(EndpointCase):
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

    def test_late_effect_is_an_event(self):
        self.recoverer = Recoverer(Result(ok=False))
        self.recoverer.happens = "started"
        endpoint = self.endpoint(self.recoverer)
        late = order(expires_at=self.host.engine_time + 5 * SECOND)

        def recover(*request, permit, **more):
            self.host.pass_time(6)
            permit.effect_done("started")
            return Result(ok=False)

        self.recoverer.recover = recover
        endpoint.recover(late)
        (event,) = self.sink.observed
        self.assertEqual((AGENT_SOURCE, "recovery.late", "started"), self.kind(event))
        self.assertEqual(
            {"recovery_id": late.recovery_id, "cause": "", "token": 7}, dict(event.attributes)
        )

    def kind(self, event):
        return event.source, event.type, event.detail

    def test_order_that_expired_on_its_way_reaches_no_recoverer(self):
        answer = self.request(Result(ok=True), expires_at=self.host.engine_time - SECOND)
        self.assertEqual((False, True), (answer["ok"], answer["retry"]))
        self.assertIn("expired 1.0 s ago", answer["message"])
        self.assertEqual([], self.recoverer.requests)
        self.assertEqual([], self.sink.observed)

    def test_order_with_a_token_below_an_accepted_one_reaches_no_recoverer(self):
        self.request(Result(ok=True), token=8)
        answer = self.request(Result(ok=True))
        self.assertEqual((False, True), (answer["ok"], answer["retry"]))
        self.assertIn("token 7 of the order is older", answer["message"])
        self.assertEqual([], self.recoverer.requests)

    def test_order_is_carried_out_in_the_time_that_is_left_for_the_engine(self):
        self.request(Result(ok=True), expires_at=self.host.engine_time + 2 * SECOND)
        self.assertEqual(2.0, self.recoverer.requests[0][2])

    def test_order_of_an_invented_recovery_is_not_permitted(self):
        self.host.engine.answers = [False]
        self.request(Result(ok=False), recovery_id=INVENTED)
        self.assertEqual("the recovery is no longer current", self.recoverer.obstacle)

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


class ProhibitionTest(EndpointCase):
    """An engine starts the instance on another host."""

    def setUp(self):
        super().setUp()
        self.inspector.found = dataclasses.replace(Inspector.found, process=False)
        self.recoverer = Recoverer(Result(ok=True))

    def prohibit(self, token=7):
        request = {
            "schema": fields.SCHEMA,
            "instance_uuid": UUID,
            "recovery_id": RECOVERY_ID,
            "token": token,
            "timeout": 5,
        }
        return self.endpoint(self.recoverer).prohibit_start({}, request)

    def refused(self, because, **request):
        answer = self.prohibit(**request)
        self.assertIs(False, answer["accepted"])
        self.assertIn(because, answer["reason"])

    def test_instance_without_a_process_is_started_no_more(self):
        self.assertEqual((True, ""), (self.prohibit()["accepted"], self.prohibit()["reason"]))
        self.assertEqual({UUID: 8}, self.host.file.stored)
        answer = self.endpoint(self.recoverer).recover(order(token=7))
        self.assertIn("token 7 of the order is older", answer["message"])
        self.assertEqual([], self.recoverer.requests)

    def test_later_recovery_may_start_it_again(self):
        self.prohibit()
        self.assertTrue(self.endpoint(self.recoverer).recover(order(token=8))["ok"])

    def test_process_that_exists_refuses_the_prohibition(self):
        self.inspector.found = Inspector.found
        self.refused("a QEMU process of the instance runs")

    def test_recovery_in_progress_refuses_the_prohibition(self):
        self.recoverer.in_progress = True
        self.refused("a recovery of the instance is in progress")

    def test_newer_order_refuses_the_prohibition(self):
        self.endpoint(self.recoverer).recover(order(token=9))
        self.refused("a newer order was accepted")

    def test_full_disk_refuses_the_prohibition(self):
        self.host.file.is_full = True
        self.refused("cannot be stored")

    def test_host_without_recovery_accepts_the_prohibition(self):
        self.recoverer = None
        self.assertTrue(self.prohibit()["accepted"])

    def test_malformed_prohibition_is_refused(self):
        for request in (None, {"schema": fields.SCHEMA, "instance_uuid": UUID, "token": 7}):
            endpoint = self.endpoint(self.recoverer)
            self.assertRaises(InvalidMessage, endpoint.prohibit_start, {}, request)
