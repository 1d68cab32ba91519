# SPDX-License-Identifier: Apache-2.0
"""A whole agent on libvirt's test driver and the in-process bus."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import fixtures
import testtools

from vmmonitor import conf as configuration
from vmmonitor import plugins
from vmmonitor.agent.health import HealthState
from vmmonitor.agent.service import AgentService
from vmmonitor.model.errors import InvalidRules
from vmmonitor.model.receipt import Receipt, ReceiptStatus
from vmmonitor.rpc import transport as transports
from vmmonitor.rpc.engine_api import EngineEndpoint
from vmmonitor.rules import defaults
from vmmonitor.sources import Source
from vmmonitor.testing.deadline import eventually
from vmmonitor.tests.fixtures import own_configuration
from vmmonitor.tests.fixtures.bus import Bus
from vmmonitor.tests.fixtures.services import free_port
from vmmonitor.tests.unit.agent.base import raw

PATIENCE = 20.0
RUN = "from vmmonitor.cmd.agent import main; main()"


class Engine(EngineEndpoint):
    """Remembers what it is told."""

    def __init__(self):
        self.details = []
        self.reports = []

    def read_time(self):
        return time.time_ns() // 1000

    def is_current(self, host, instance_uuid, recovery_id, token):
        self.checked = (host, instance_uuid, recovery_id, token)
        return token == 7

    def store_events(self, batch):
        self.details += [one.event.detail for one in batch.deliveries]
        return [Receipt(status=ReceiptStatus.STORED) for _ in batch.deliveries]

    def store_report(self, report, caller):
        self.reports.append(report)
        return report.inventory_digest

    def store_evidence(self, exhibit):
        self.exhibit = exhibit
        return Receipt(status=ReceiptStatus.STORED)

    def store_inventory(self, host, digest, seen, caller):
        raise AssertionError("the digest was the right one")


class Broken(Source):
    """Neither starts nor stops."""

    def start(self):
        raise ZeroDivisionError("a bug")

    def stop(self):
        raise ZeroDivisionError("another bug")


class ServiceTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.directory = self.useFixture(fixtures.TempDir()).path
        self.conf = configuration.new([], files=[])
        self.conf.set_override("host", "compute-1")
        self.conf.set_override("path", os.path.join(self.directory, "spool.db"), "spool")
        self.conf.set_override("uri", "test:///default", "libvirt")
        self.conf.set_override("reply_timeout", 1.0, "forwarder")
        self.conf.set_override("retry_max", 0.5, "forwarder")
        self.filters = defaults.path(defaults.EVENT_FILTERS)
        self.transport = self.useFixture(Bus(self.conf)).transport

    def engine(self):
        engine = Engine()
        server = transports.serve(self.transport, transports.ENGINE_TOPIC, "engine-1", engine)
        server.start()
        self.addCleanup(server.stop, PATIENCE)
        return engine

    def agent(self):
        agent = AgentService(self.conf, self.transport, lambda: self.filters)
        self.addCleanup(agent.stop)
        agent.start()
        return agent

    def rules(self, content):
        self.filters = os.path.join(self.directory, "filters.yaml")
        with open(self.filters, "w") as file:
            file.write(content)

    def observe(self, agent, *details):
        for detail in details:
            agent.pipeline.observe(raw(f"test/{detail}"))

    def test_events_and_reports_reach_the_engine(self):
        engine = self.engine()
        agent = self.agent()
        self.observe(agent, "1", "2")
        eventually(lambda: engine.details == ["1", "2"], PATIENCE)
        eventually(lambda: engine.reports and engine.reports[-1].state == "up", PATIENCE)
        agent.stop()
        self.assertEqual("stopped", engine.reports[-1].state)

    def test_five_thousand_events_reach_the_engine_in_order(self):
        engine = self.engine()
        agent = self.agent()
        wanted = [str(number) for number in range(5000)]
        self.observe(agent, *wanted)
        eventually(lambda: len(engine.details) >= 5000, 60)
        self.assertEqual(wanted, engine.details)
        eventually(lambda: agent.spool.depth == 0)

    def test_source_that_fails_to_start_is_reported_and_stops_no_other(self):
        load = plugins.load

        def loaded(namespace, name):
            return Broken if name == "broken" else load(namespace, name)

        self.useFixture(fixtures.MonkeyPatch("vmmonitor.plugins.load", loaded))
        self.conf.set_override("sources", ["broken", "libvirt"], "agent")
        engine = self.engine()
        agent = self.agent()
        eventually(lambda: "libvirt" in agent.reachability.reports, PATIENCE)
        self.observe(agent, "1")
        eventually(lambda: engine.details == ["1"], PATIENCE)
        self.assertEqual(
            HealthState("up", "source broken: failed to start: a bug"),
            agent.reporter.assess_health(),
        )
        self.observe(agent, "last")
        agent.stop()
        self.assertEqual([], [one for one in threading.enumerate() if one.name == "pipeline"])
        self.assertIn("last", [*engine.details, *self.left()])

    def left(self):
        """The details of what an agent left in its spool."""
        with sqlite3.connect(self.conf.spool.path) as db:
            rows = db.execute("SELECT body ->> 'detail' FROM event ORDER BY sequence").fetchall()
        return [detail for (detail,) in rows]

    def test_unsent_events_are_sent_after_the_next_start(self):
        agent = self.agent()
        self.observe(agent, "1", "2")
        agent.stop()
        self.assertEqual(["1", "2"], self.left())
        engine = self.engine()
        agent = self.agent()
        self.observe(agent, "3")
        # Calls that nobody answered are still on the bus: events come twice, but in order.
        eventually(lambda: [*dict.fromkeys(engine.details)] == ["1", "2", "3"], PATIENCE)

    def test_agent_is_behind_while_the_spool_is_locked(self):
        engine = self.engine()
        agent = self.agent()
        eventually(lambda: engine.reports and engine.reports[-1].state == "up", PATIENCE)
        agent.spool._db.execute("PRAGMA busy_timeout = 10")
        with sqlite3.connect(self.conf.spool.path, isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            self.observe(agent, *"123")
            eventually(lambda: engine.reports[-1].state == "behind", PATIENCE)
            self.assertIn("locked", engine.reports[-1].reason)
            other.execute("ROLLBACK")
        eventually(lambda: engine.details == ["1", "2", "3"], PATIENCE)
        eventually(lambda: engine.reports[-1].state == "up", PATIENCE)

    def test_reload_applies_valid_rules_and_refuses_invalid_ones(self):
        engine = self.engine()
        agent = self.agent()
        before = agent.event_filter.filters.checksum
        self.rules("version: 1\nrules: [{name: broken}]\n")
        agent.reset()
        self.assertEqual(before, agent.event_filter.filters.checksum)
        self.rules("version: 1\nrules: [{name: none, match: {detail: no}, action: ignore}]\n")
        agent.reset()
        eventually(
            lambda: engine.reports and engine.reports[-1].filter_checksum != before, PATIENCE
        )
        self.observe(agent, "no", "yes")
        eventually(lambda: engine.details == ["yes"], PATIENCE)

    def test_reload_keeps_the_counters_of_rate_rules(self):
        often = (
            "version: 1\nrules: [{name: often, match: {type: test}, action: ignore,"
            " rate: {count: 3, seconds: 60}}]\n"
        )
        self.rules(often)
        engine = self.engine()
        agent = self.agent()
        self.observe(agent, "1", "2")
        eventually(lambda: engine.details == ["1", "2"], PATIENCE)
        self.rules(often + "# changed\n")
        agent.reset()
        self.observe(agent, "3")
        eventually(lambda: agent.pipeline.dropped["often"] == 1, PATIENCE)
        self.assertEqual(["1", "2"], engine.details)

    def test_agent_with_invalid_rules_does_not_start(self):
        self.rules("version: 1\nrules: [{name: broken}]\n")
        self.assertRaises(InvalidRules, self.agent_only)

    def agent_only(self):
        return AgentService(self.conf, self.transport, lambda: self.filters)


class ProgramTest(testtools.TestCase):
    """``vmmonitor-agent`` with a broker that is not there."""

    def setUp(self):
        super().setUp()
        self.directory = self.useFixture(fixtures.TempDir()).path
        self.config = os.path.join(self.directory, "vmmonitor.conf")
        self.log = os.path.join(self.directory, "log")
        self.write()

    def write(self, interval="7", mark="1000"):
        with open(self.config, "w") as file:
            file.write(
                f"[DEFAULT]\ntransport_url = rabbit://a:b@127.0.0.1:{free_port()}/\n"
                f"state_path = {self.directory}\nlog_file = {self.log}\n"
                "[libvirt]\nuri = test:///default\n"
                f"[agent]\nreport_interval = {interval}\nbehind_mark = {mark}\n"
            )

    def logged(self, text):
        def look():
            if not os.path.exists(self.log):
                return False
            with open(self.log) as file:
                return text in file.read()

        eventually(look, 60, text)

    def start(self):
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, *own_configuration.arguments(self.config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def test_program_starts_reloads_and_stops_without_a_broker(self):
        process = self.start()
        self.logged("Agent started on host")
        for interval, says in (
            ("soon", "Rejected the new configuration"),
            ("9\nnonsense", "No ':' or '=' found"),
            ("9", "changed from [7] to [9]"),
        ):
            self.write(interval)
            process.send_signal(signal.SIGHUP)
            self.logged(says)
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        self.assertEqual(0, process.wait(60))
        self.assertLess(time.monotonic() - begun, 30)

    def test_program_with_an_invalid_option_does_not_start(self):
        self.write(interval="soon")
        process = self.start()
        self.assertEqual(1, process.wait(60))
        self.assertIn("report_interval", process.stderr.read())
