# SPDX-License-Identifier: Apache-2.0
"""Thousands of events at once, and a clock that jumps: agent, bus, engine, database."""

import dataclasses
import itertools
import os
import time
import uuid

import fixtures
import testtools

from vmmonitor.agent.service import AgentService
from vmmonitor.db import events, incidents
from vmmonitor.db.page import Page
from vmmonitor.engine.service import EngineService
from vmmonitor.model.event import RawEvent
from vmmonitor.model.instance import Instance
from vmmonitor.rules import defaults
from vmmonitor.sources.libvirt.connection import EVENT_LOOP
from vmmonitor.testing.deadline import eventually
from vmmonitor.tests.fixtures.bus import Bus
from vmmonitor.tests.fixtures.database import SQLite

COUNT = 5000
PATIENCE_S = 120.0
HOUR = 3_600_000_000
SECOND = 1_000_000
#: KiB by which agent and engine together may grow while a storm passes through them.
MOST_GROWTH = 64 * 1024
#: Nothing is done about any incident.
POLICIES = "version: 1\npolicies: []\n"


def rss():
    """Return the memory of this process, in KiB."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


class StormTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.sqlite = self.useFixture(SQLite())
        self.conf = self.sqlite.conf
        directory = self.useFixture(fixtures.TempDir()).path
        self.conf.set_override("host", "compute-1")
        self.conf.set_override("path", os.path.join(directory, "spool.db"), "spool")
        self.conf.set_override("uri", "test:///default", "libvirt")
        self.policies = os.path.join(directory, "policies.yaml")
        with open(self.policies, "w") as file:
            file.write(POLICIES)
        self.transport = self.useFixture(Bus(self.conf)).transport
        EVENT_LOOP.start()
        self.addCleanup(EVENT_LOOP.stop)

    def engine(self):
        engine = EngineService(self.conf, lambda: self.transport, lambda: self.policies)
        engine.start()
        self.addCleanup(engine.stop)

    def agent(self):
        filters = defaults.path(defaults.EVENT_FILTERS)
        agent = AgentService(self.conf, self.transport, lambda: filters)
        agent.start()
        self.addCleanup(agent.stop)
        eventually(lambda: "libvirt" in agent.reachability.reports, what="it sees its host")
        return agent

    def stored(self):
        """Return every event of the test's own, in the order in which they were stored."""
        with self.sqlite.database.reader() as tx:
            page = events.page(tx, Page(limit=2 * COUNT, sort=[("id", "asc")]))
        return [one.event for one in page if "number" in one.event.attributes]

    def assert_all_in_order(self, count):
        stored = self.stored()
        self.assertEqual(list(range(count)), [one.attributes["number"] for one in stored])
        sequences = [one.sequence for one in stored]
        self.assertEqual(sorted(set(sequences)), sequences)
        return stored

    def word(self, number, cause, instance_uuid, at, **attributes):
        kind, detail = cause.split("/")
        return RawEvent(
            source="libvirt",
            type=kind,
            detail=detail,
            occurred_at=at,
            instance=Instance(uuid=instance_uuid),
            attributes={"number": number, **attributes},
        )

    def test_thousands_at_once_are_stored_in_their_order_in_bounded_memory(self):
        """Of 500 instances, while the engine is away, then all that waits goes at once."""
        agent = self.agent()
        uuids = [str(uuid.uuid4()) for _ in range(500)]
        causes = itertools.cycle(["lifecycle.suspended/paused", "reboot/", "watchdog/none"])
        noon = time.time_ns() // 1000
        before, most = rss(), 0
        for number in range(COUNT):
            at = noon + number
            text = "x" * 1000
            word = self.word(number, next(causes), uuids[number % 500], at, text=text)
            agent.pipeline.observe(word)
            most = max(most, rss()) if number % 100 == 0 else most
        eventually(lambda: agent.spool.depth >= COUNT, PATIENCE_S)
        self.engine()

        def is_over():
            nonlocal most
            most = max(most, rss())
            return agent.spool.depth == 0

        eventually(is_over, PATIENCE_S)
        self.assertLess(most - before, MOST_GROWTH)
        self.assert_all_in_order(COUNT)

    def test_a_storm_of_errors_of_one_disk_is_one_incident(self):
        self.engine()
        agent = self.agent()
        noon = time.time_ns() // 1000
        one = str(uuid.uuid4())
        for number in range(COUNT):
            said = {"path": "/x", "device": "virtio-disk1"}
            word = self.word(number, "io_error/report", one, noon + number, **said)
            agent.pipeline.observe(word)
            agent.pipeline.observe(
                dataclasses.replace(
                    word, type="io_error_reason", attributes={**said, "reason": ""}
                )
            )
        eventually(lambda: len(self.stored()) == COUNT, PATIENCE_S)
        eventually(lambda: agent.spool.depth == 0, PATIENCE_S)
        self.assert_all_in_order(COUNT)
        self.assertEqual(COUNT, agent.pipeline.dropped["duplicate-report"])
        with self.sqlite.database.reader() as tx:
            (incident,) = incidents.page(tx, Page(limit=9))
        self.assertEqual("io_error/report", incident.cause)
        self.assertEqual(COUNT - 9, incident.event_count)

    def test_a_clock_that_jumps_loses_nothing_and_changes_no_order(self):
        jumps = itertools.cycle([0, HOUR, -HOUR, 0, -2 * HOUR, 2 * HOUR])
        offset = 0

        def now():
            return time.time_ns() // 1000 + offset

        self.useFixture(fixtures.MonkeyPatch("vmmonitor.agent.service.read_clock", now))
        # A listing would report that the instance of the test has vanished.
        delays = "vmmonitor.sources.libvirt.source.RESYNC_DELAYS"
        self.useFixture(fixtures.MonkeyPatch(delays, ()))
        self.engine()
        agent = self.agent()
        one = str(uuid.uuid4())
        times = []
        for number in range(300):
            offset = next(jumps)
            times.append(now())
            cause = "lifecycle.started/booted" if number % 2 else "lifecycle.stopped/failed"
            agent.pipeline.observe(self.word(number, cause, one, times[-1]))
            if number % 50 == 0:
                # So that it is spooled and sent in this time, not in the next one.
                eventually(lambda number=number: len(self.stored()) > number, PATIENCE_S)
        eventually(lambda: len(self.stored()) == 300, PATIENCE_S)
        stored = self.assert_all_in_order(300)
        self.assertEqual(times, [event.occurred_at for event in stored])
        with self.sqlite.database.reader() as tx:
            states = [incident.state for incident in incidents.page(tx, Page(limit=1000))]
        # Each failure is an incident, and each is over when the instance runs again.
        self.assertEqual(["resolved"] * 150, states)
