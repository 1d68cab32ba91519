# SPDX-License-Identifier: Apache-2.0
"""The main path, from libvirt's callback to an instance that runs again, in one process.

Everything is real except the hypervisor (libvirt's own test driver) and the bus (in-process). It
reads along the way of the data: source -> filter -> spool -> bus -> ingest -> incident -> hold ->
expectation -> driver -> agent -> libvirt -> and back as an event that ends the incident.
"""

import os
import time

import fixtures
import libvirt
import testtools

from vmmonitor.agent.service import AgentService
from vmmonitor.db import agents, events, incidents, inventories, recoveries, timeline_entries
from vmmonitor.db.page import Page
from vmmonitor.engine.service import EngineService
from vmmonitor.model.event import RawEvent, StoredEvent
from vmmonitor.model.instance import Instance
from vmmonitor.rules import defaults
from vmmonitor.sources.libvirt.connection import EVENT_LOOP
from vmmonitor.testing.deadline import eventually
from vmmonitor.tests.fixtures.bus import Bus
from vmmonitor.tests.fixtures.database import SQLite

#: One domain, called "test", runs from the beginning.
HYPERVISOR = "test:///default"


class MainPathTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.sqlite = self.useFixture(SQLite())
        self.conf = self.sqlite.conf
        directory = self.useFixture(fixtures.TempDir()).path
        self.conf.set_override("host", "compute-1")
        self.conf.set_override("path", os.path.join(directory, "spool.db"), "spool")
        self.conf.set_override("uri", HYPERVISOR, "libvirt")
        self.conf.set_override("read_only", False, "libvirt")
        self.conf.set_override("allow_recovery", True, "agent")
        self.conf.set_override("going_down_file", "", "agent")
        self.conf.set_override("reply_timeout", 1.0, "forwarder")
        self.transport = self.useFixture(Bus(self.conf)).transport
        EVENT_LOOP.start()
        self.addCleanup(EVENT_LOOP.stop)
        self.hypervisor = libvirt.open(HYPERVISOR)
        self.addCleanup(self.hypervisor.close)
        self.domain = self.hypervisor.lookupByName("test")
        self.uuid = self.domain.UUIDString()
        if not self.domain.isActive():
            self.domain.create()

    # -- the parts -----------------------------------------------------------------------------
    def engine(self) -> EngineService:
        policies = defaults.path(defaults.RECOVERY_POLICIES)
        filters = defaults.path(defaults.EVENT_FILTERS)
        engine = EngineService(
            self.conf, lambda: self.transport, lambda: policies, lambda: filters
        )
        engine.start()
        self.addCleanup(engine.stop)
        return engine

    def agent(self) -> AgentService:
        filters = defaults.path(defaults.EVENT_FILTERS)
        agent = AgentService(self.conf, self.transport, lambda: filters)
        agent.start()
        self.addCleanup(agent.stop)
        eventually(lambda: "libvirt" in agent.reachability.reports, what="it sees its host")
        return agent

    def fail(self, agent: AgentService, cause: str) -> None:
        """Say what libvirt would say of a failure that its test driver cannot make."""
        kind, detail = cause.split("/")
        agent.pipeline.observe(
            RawEvent(
                source="libvirt",
                type=kind,
                detail=detail,
                occurred_at=time.time_ns() // 1000,
                instance=Instance(uuid=self.uuid),
            )
        )

    # -- what is in the database ---------------------------------------------------------------
    def stored(self, cause: str) -> list[StoredEvent]:
        with self.sqlite.database.reader() as tx:
            page = events.page(tx, Page(limit=1000))
        return [one for one in page if one.event.cause == cause]

    def incidents(self, state: str | None = None):
        with self.sqlite.database.reader() as tx:
            page = incidents.page(tx, Page(limit=1000))
        return [one for one in page if state in (None, one.state)]

    # -- the path ------------------------------------------------------------------------------
    def test_a_crashed_instance_runs_again_and_everything_is_told(self):
        self.engine()
        agent = self.agent()
        self.domain.shutdown()
        eventually(lambda: self.stored("lifecycle.stopped/shutdown"))
        self.assertEqual([], self.incidents(), "a planned stop opened an incident")

        self.fail(agent, "lifecycle.stopped/failed")

        (incident,) = eventually(lambda: self.incidents("resolved"))
        self.assertTrue(self.domain.isActive())
        self.assertEqual("lifecycle.stopped/failed", incident.cause)
        self.assertEqual(("compute-1", "test"), (incident.host, incident.instance.name))
        with self.sqlite.database.reader() as tx:
            (recovery,) = recoveries.of_incident(tx, incident.incident_id)
            steps = timeline_entries.of_incident(tx, incident.incident_id)
            told = events.of_incident(tx, incident.incident_id)
        self.assertEqual(("libvirt", "succeeded"), (recovery.driver, recovery.state))
        kinds = [step.kind for step in steps]
        self.assertEqual(["decision", "hold", "question", "state", "recovery"], kinds[:5])
        self.assertIn("recovering -> resolved", steps[-1].message)
        self.assertEqual("lifecycle.stopped/failed", told[0].event.cause)
        first = told[0]
        self.assertTrue(
            first.event.occurred_at <= first.spooled_at <= first.sent_at <= first.stored_at
        )

    def test_what_happened_while_the_engine_was_away_is_stored_in_its_order(self):
        agent = self.agent()
        self.domain.suspend()
        self.domain.resume()
        self.domain.destroy()
        eventually(lambda: agent.spool.depth >= 3)
        self.engine()
        eventually(lambda: agent.spool.depth == 0)
        with self.sqlite.database.reader() as tx:
            page = events.page(tx, Page(limit=1000, sort=[("id", "asc")]))
        causes = [one.event.cause for one in page]
        self.assertEqual(["lifecycle.suspended/paused", "lifecycle.resumed/unpaused"], causes[:2])
        self.assertEqual("lifecycle.stopped/destroyed", causes[-1])
        sequences = [one.event.sequence for one in page]
        self.assertEqual(sorted(set(sequences)), sequences)

    def test_what_happened_while_the_agent_was_away_is_told_at_its_start(self):
        self.engine()
        agent = self.agent()
        eventually(lambda: agent.inventory.get(self.uuid))
        agent.stop()
        self.domain.destroy()
        self.agent()
        (stored,) = eventually(lambda: self.stored("lifecycle.stopped/destroyed"))
        self.assertEqual("start", stored.event.attributes["noticed"])
        self.assertEqual("record", stored.decision.action)
        self.assertEqual([], self.incidents())

    def test_an_agent_tells_how_it_is_and_what_it_sees(self):
        self.engine()
        agent = self.agent()

        def known():
            with self.sqlite.database.reader() as tx:
                page = agents.page(tx, Page(limit=9))
                return page and inventories.present(tx, "compute-1") and page[0]

        said = eventually(lambda: (found := known()) and found.state == "up" and found)
        self.assertEqual(("up", 1), (said.state, said.report.instances))
        self.assertEqual(agent.event_filter.filters.checksum, said.report.filter_checksum)
        agent.stop()
        eventually(lambda: known().state == "stopped")

    def test_a_host_that_does_not_allow_recovery_says_so(self):
        self.conf.set_override("allow_recovery", False, "agent")
        self.engine()
        agent = self.agent()
        self.domain.destroy()
        eventually(lambda: self.stored("lifecycle.stopped/destroyed"))
        self.fail(agent, "lifecycle.stopped/failed")
        (incident,) = eventually(lambda: self.incidents("unrecovered"))
        self.assertIn("allow_recovery is off", incident.reason)
        self.assertFalse(self.domain.isActive())
