# SPDX-License-Identifier: Apache-2.0
"""Every call that may come over the bus, with anything in it: a clear refusal, or an answer."""

import contextlib
import json
import unittest

from hypothesis import example, given
from hypothesis import strategies as st

from vmmonitor.model.errors import InvalidMessage
from vmmonitor.model.evidence import Item
from vmmonitor.model.inspection import Inspection
from vmmonitor.model.receipt import Receipt, ReceiptStatus
from vmmonitor.rpc import event_wire, evidence_wire
from vmmonitor.rpc.agent_api import MAX_TIMEOUT, AgentEndpoint
from vmmonitor.rpc.engine_api import EngineEndpoint
from vmmonitor.tests.unit.rpc.test_event_wire import ANYTHING, RECORDED

REQUEST = {
    "schema": 1,
    "instance_uuid": "u",
    "recovery_id": "r",
    "token": 1,
    "expires_at": 1,
    "timeout": 5,
    "cause": "",
}
INSPECTION = {"schema": 1, "instance_uuid": "u", "timeout": 1}
CHECK = {"schema": 1, "host": "h", "instance_uuid": "u", "recovery_id": "r", "token": 1}
CHANGES = RECORDED["inventory_changes"]
EVIDENCE = evidence_wire.write("compute-1", "e", Item(kind="panic", content=b"x", captured_at=1))
HUGE = 10**400


class Engine(EngineEndpoint):
    """Takes everything that can be read."""

    def read_time(self):
        return 1

    def is_current(self, host, instance_uuid, recovery_id, token):
        assert isinstance(token, int)
        return all(isinstance(one, str) for one in (host, instance_uuid, recovery_id))

    def store_events(self, batch):
        return [Receipt(status=ReceiptStatus.STORED) for _ in batch.deliveries]

    def store_report(self, report, caller):
        return report.inventory_digest

    def store_inventory(self, host, digest, seen, caller):
        for one in seen:
            assert isinstance(one.instance.uuid, str)

    def store_inventory_changes(self, changes, caller):
        self.store_inventory(changes.host, changes.digest, changes.changed, caller)
        return changes.digest

    def store_evidence(self, exhibit):
        assert isinstance(exhibit.item.content, bytes)
        return Receipt(status=ReceiptStatus.STORED)


class Agent(AgentEndpoint):
    """Says what it was asked for."""

    def recover(self, order):
        assert 0 < order.timeout <= MAX_TIMEOUT
        return {"message": f"{order.instance_uuid} {order.recovery_id} {order.token}"}

    def inspect(self, instance_uuid, timeout):
        assert isinstance(instance_uuid, str) and 0 < timeout <= MAX_TIMEOUT
        return Inspection(state="", reason="", managed=False, process=False, answers=None)

    def prohibit(self, prohibition):
        raise AssertionError("must not be called")


def changed(form):
    """Return forms that differ from a good one in some keys, or lack some."""
    keys = st.sampled_from(sorted(form))
    changes = st.dictionaries(keys, ANYTHING | st.just(HUGE), max_size=3)
    return st.builds(
        lambda more, less: {k: v for k, v in (form | more).items() if k not in less},
        changes,
        st.sets(keys, max_size=1),
    )


def listed(form, key):
    """Return forms whose list holds anything beside what is good."""
    good = form[key][0]
    items = ANYTHING | (changed(good) if isinstance(good, dict) else st.nothing())
    return st.lists(items | st.just(good), max_size=4).map(lambda one: form | {key: one})


class EndpointsTest(unittest.TestCase):
    def answers(self, call, form):
        with contextlib.suppress(InvalidMessage):
            answer = call({}, form)
            self.assertEqual(1, answer["schema"])
            json.dumps(answer)

    @given(changed(RECORDED["batch"]) | listed(RECORDED["batch"], "events"))
    def test_report_events(self, form):
        self.answers(Engine().report_events, form)

    @given(changed(RECORDED["report"]))
    @example(RECORDED["report"] | {"interval": HUGE})
    @example(RECORDED["report"] | {"interval": float("nan")})
    def test_report_agent(self, form):
        self.answers(Engine().report_agent, form)

    @given(changed(RECORDED["inventory"]) | listed(RECORDED["inventory"], "instances"))
    def test_report_inventory(self, form):
        self.answers(Engine().report_inventory, form)

    @given(changed(CHANGES) | listed(CHANGES, "changed"))
    def test_report_inventory_changes(self, form):
        self.answers(Engine().report_inventory_changes, form)

    @given(changed(EVIDENCE))
    def test_report_evidence(self, form):
        self.answers(Engine().report_evidence, form)

    @given(changed(REQUEST))
    @example(REQUEST | {"timeout": HUGE})
    @example(REQUEST | {"timeout": float("nan")})
    def test_recover_instance(self, form):
        self.answers(Agent().recover_instance, form)

    @given(changed(INSPECTION))
    @example(INSPECTION | {"timeout": HUGE})
    def test_inspect_instance(self, form):
        self.answers(Agent().inspect_instance, form)

    @given(changed(CHECK))
    @example(CHECK | {"token": HUGE})
    def test_check_recovery(self, form):
        self.answers(Engine().check_recovery, form)

    @given(changed(RECORDED["receipts"]) | listed(RECORDED["receipts"], "receipts"))
    def test_receipts(self, form):
        with contextlib.suppress(InvalidMessage):
            self.assertEqual(3, len(event_wire.read_receipts(form, 3)))
