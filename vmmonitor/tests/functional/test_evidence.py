# SPDX-License-Identifier: Apache-2.0
"""Evidence from the rule to the database, in one process; and what may go wrong on the way."""

import os
import time
from unittest import mock

import fixtures
import libvirt
import testtools

from vmmonitor.agent.service import AgentService
from vmmonitor.db import agents, events, evidence
from vmmonitor.db.page import Page
from vmmonitor.engine.endpoint import AgentCallEndpoint
from vmmonitor.engine.service import EngineService
from vmmonitor.model.errors import Retriable
from vmmonitor.model.event import RawEvent
from vmmonitor.model.instance import Instance
from vmmonitor.model.receipt import ReceiptStatus
from vmmonitor.rules import defaults
from vmmonitor.sources.libvirt.connection import EVENT_LOOP
from vmmonitor.testing.deadline import eventually
from vmmonitor.tests.fixtures.bus import Bus
from vmmonitor.tests.fixtures.database import SQLite

HYPERVISOR = "test:///default"
PLAIN = "version: 1\nrules:\n- {name: all, match: {}, action: record"
ASKING = PLAIN + ", evidence: [screenshot, panic, qemu_log, console]"
PATIENCE = 20.0


class EvidenceTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.sqlite = self.useFixture(SQLite())
        self.conf = self.sqlite.conf
        self.directory = self.useFixture(fixtures.TempDir()).path
        for group, options in {
            None: {"host": "compute-1", "state_path": self.directory},
            "libvirt": {"uri": HYPERVISOR, "read_only": False},
            "forwarder": {"reply_timeout": 2.0, "retry_max": 0.5},
            "agent": {"report_interval": 0.2},
            "evidence": {"store": "engine", "qemu_log_directory": self.directory},
        }.items():
            for name, value in options.items():
                self.conf.set_override(name, value, group)
        self.transport = self.useFixture(Bus(self.conf)).transport
        EVENT_LOOP.start()
        self.addCleanup(EVENT_LOOP.stop)
        self.hypervisor = libvirt.open(HYPERVISOR)
        self.addCleanup(self.hypervisor.close)
        self.uuid = self.hypervisor.lookupByName("test").UUIDString()
        with open(os.path.join(self.directory, "test.log"), "w") as log:
            log.write("LC_ALL=C qemu -spice password=hunter2\npanic hyper-v: arg1='0x7'\n")
        self.filters = os.path.join(self.directory, "filters.yaml")

    # -- the parts -----------------------------------------------------------------------------
    def rules(self, text):
        with open(self.filters, "w") as file:
            file.write(text + "}\n")

    def engine(self):
        policies = defaults.path(defaults.RECOVERY_POLICIES)
        engine = EngineService(self.conf, lambda: self.transport, lambda: policies)
        engine.start()
        self.addCleanup(engine.stop)

    def agent(self, text=ASKING):
        self.rules(text)
        agent = AgentService(self.conf, self.transport, lambda: self.filters)
        agent.start()
        self.addCleanup(agent.stop)
        eventually(lambda: "libvirt" in agent.reachability.reports, what="it sees its host")
        return agent

    def happen(self, agent, type="watchdog", **instance):
        agent.pipeline.observe(
            RawEvent(
                source="libvirt",
                type=type,
                detail="pause",
                occurred_at=time.time_ns() // 1000,
                instance=Instance(**{"uuid": self.uuid, "hypervisor_name": "test"} | instance),
            )
        )

    def stored(self, type="watchdog"):
        with self.sqlite.database.reader() as tx:
            return [one for one in events.page(tx, Page(limit=99)) if one.event.type == type]

    def items(self, event_id):
        with self.sqlite.database.reader() as tx:
            return {item.kind: item for item in evidence.of_event(tx, event_id)}

    def evidence(self, type="watchdog"):
        (stored,) = eventually(lambda: self.stored(type), PATIENCE)
        eventually(lambda: len(self.items(stored.event.event_id)) == 4, PATIENCE)
        return stored, self.items(stored.event.event_id)

    def lost(self):
        with self.sqlite.database.reader() as tx:
            return agents.get(tx, "compute-1").report.figures["evidence_lost"]

    def outgoing(self):
        path = os.path.join(self.directory, "evidence", "outgoing")
        return os.listdir(path) if os.path.exists(path) else []

    # -- the way -------------------------------------------------------------------------------
    def test_from_the_rule_to_the_database(self):
        self.engine()
        self.happen(self.agent())
        stored, items = self.evidence()
        self.assertEqual(
            {"kinds": ["screenshot", "panic", "console", "qemu_log"], "kept": "engine"},
            stored.event.attributes["evidence"],
        )
        with self.sqlite.database.reader() as tx:
            log = evidence.content(tx, stored.event.event_id, "qemu_log").content
            panic = evidence.content(tx, stored.event.event_id, "panic").content
        self.assertIn(b"-spice password=***", log)
        self.assertNotIn(b"hunter2", log)
        self.assertIn(b"arg1='0x7'", panic)
        self.assertIn("names no file for its console", items["console"].message)
        eventually(lambda: self.outgoing() == [], PATIENCE)

    def test_a_reload_may_ask_for_it(self):
        self.engine()
        agent = self.agent(PLAIN)
        self.happen(agent)
        (stored,) = eventually(self.stored, PATIENCE)
        self.assertNotIn("evidence", stored.event.attributes)
        self.rules(ASKING)
        agent.reset()
        self.happen(agent, "io_error")
        self.evidence("io_error")

    # -- what may go wrong ---------------------------------------------------------------------
    def test_an_engine_that_dies_after_the_commit_is_sent_it_again(self):
        self.engine()
        store = AgentCallEndpoint.store_evidence
        words = []

        def dying(endpoint, exhibit):
            receipt = store(endpoint, exhibit)
            words.append(receipt.status)
            if words.count("stored") == 1 and "duplicate" not in words:
                raise Retriable("killed before the answer")
            return receipt

        with mock.patch.object(AgentCallEndpoint, "store_evidence", dying):
            self.happen(self.agent())
            self.evidence()
            eventually(lambda: self.outgoing() == [], PATIENCE)
        # The first word may be "unknown": evidence is not sent behind its event, but beside it.
        taken = [word for word in words if word != ReceiptStatus.UNKNOWN]
        self.assertEqual(["stored", "duplicate"] + ["stored"] * 3, taken)

    def test_what_no_engine_took_waits_for_the_next_life(self):
        agent = self.agent()
        self.happen(agent)
        eventually(self.outgoing, PATIENCE)
        agent.stop()
        self.engine()
        self.agent(PLAIN)
        self.evidence()

    def test_of_an_event_that_is_refused_it_is_given_up(self):
        self.engine()
        agent = self.agent()
        self.happen(agent, uuid=f" {self.uuid[1:]}")
        self.happen(agent, uuid="x" * 40)
        eventually(lambda: agent.spool.refused_count >= 1, PATIENCE)
        self.happen(agent, "io_error")
        self.evidence("io_error")
        eventually(lambda: self.outgoing() == [], PATIENCE)

    def test_a_directory_that_cannot_be_written_costs_no_event(self):
        self.conf.set_override("directory", "/dev/null/evidence", "evidence")
        self.engine()
        self.happen(self.agent())
        eventually(self.stored, PATIENCE)
        eventually(lambda: self.lost() == {"not-written": 1}, PATIENCE)

    def test_a_hostile_name_leads_nowhere(self):
        self.engine()
        agent = self.agent()
        self.happen(agent, uuid="00000000-0000-0000-0000-000000000001", hypervisor_name="../x")
        _, items = self.evidence()
        self.assertIn("not valid in a file name", items["qemu_log"].message)
        self.assertIn("libvirt: ", items["screenshot"].message)
        self.assertIn("definition of the instance is not known", items["console"].message)

    def test_five_thousand_at_once(self):
        self.conf.set_override("queue_size", 5, "evidence")
        self.engine()
        agent = self.agent()
        for _ in range(5000):
            self.happen(agent)
        eventually(lambda: self.count() == 5000, 60)
        eventually(lambda: self.lost().get("queue-full", 0) > 0, PATIENCE)

    def count(self):
        with self.sqlite.database.reader() as tx:
            return len(events.page(tx, Page(limit=10000, filters={"type": "watchdog"})))
