# SPDX-License-Identifier: Apache-2.0
"""Every call that may come over the bus, with anything in it: a clear refusal, or an answer."""

import contextlib
import json
import unittest

from hypothesis import example, given
from hypothesis import strategies as st

from vmmonitor.model.errors import InvalidMessage
from vmmonitor.model.evidence import Item
from vmmonitor.model.receipt import Receipt, ReceiptStatus
from vmmonitor.rpc import event_wire, evidence_wire
from vmmonitor.rpc.agent_api import MAX_TIMEOUT, AgentEndpoint
from vmmonitor.rpc.engine_api import EngineEndpoint
from vmmonitor.tests.unit.rpc.test_event_wire import ANYTHING, RECORDED

REQUEST = {"schema": 1, "instance_uuid": "u", "recovery_id": "r", "timeout": 5}
CHANGES = RECORDED["inventory_changes"]
EVIDENCE = evidence_wire.write("compute-1", "e", Item(kind="panic", content=b"x", captured_at=1))
HUGE = 10**400


class Engine(EngineEndpoint):
    """Takes everything that can be read."""

    def store_events(self, batch):
        return [Receipt(status=ReceiptStatus.STORED) for _ in batch.deliveries]

    def store_report(self, report):
        return report.inventory_digest

    def store_inventory(self, host, digest, seen):
        for one in seen:
            assert isinstance(one.instance.uuid, str)

    def store_inventory_changes(self, changes):
        self.store_inventory(changes.host, changes.digest, changes.changed)
        return changes.digest

    def store_evidence(self, exhibit):
        assert isinstance(exhibit.item.content, bytes)
        return Receipt(status=ReceiptStatus.STORED)


class Agent(AgentEndpoint):
    """Says what it was asked for."""

    def recover(self, instance_uuid, recovery_id, timeout, cause):
        assert 0 < timeout <= MAX_TIMEOUT
        return {"message": f"{instance_uuid} {recovery_id}"}


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

    @given(changed(RECORDED["receipts"]) | listed(RECORDED["receipts"], "receipts"))
    def test_receipts(self, form):
        with contextlib.suppress(InvalidMessage):
            self.assertEqual(3, len(event_wire.read_receipts(form, 3)))
