# SPDX-License-Identifier: Apache-2.0
"""What one source of an agent observed is told to the others, once it was taken in."""

import os

import fixtures
import testtools

from vmmonitor import conf as configuration
from vmmonitor import sources
from vmmonitor.agent.service import AgentService
from vmmonitor.model.event import RawEvent, Reachability, SourceSnapshot
from vmmonitor.model.instance import Instance
from vmmonitor.rules import defaults
from vmmonitor.testing.deadline import eventually
from vmmonitor.tests.fixtures.bus import Bus

INSTANCE = Instance(uuid="b9a3ce6a-6f2b-4f0c-9d6e-3b8a1e0f5c11")


class Told(sources.Source):
    """Keeps what it is told."""

    def start(self):
        self.told = []

    def stop(self):
        pass

    def follow(self, observation):
        self.told.append(observation)


class Broken(Told):
    """Fails at whatever it is told."""

    def follow(self, observation):
        raise RuntimeError("a bug")


class Deaf(sources.Source):
    """Follows nobody."""

    def start(self):
        pass

    def stop(self):
        pass


SOURCES = {"first": Told, "broken": Broken, "deaf": Deaf, "last": Told}


class FollowTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.log = self.useFixture(fixtures.FakeLogger("vmmonitor"))
        self.useFixture(
            fixtures.MonkeyPatch("vmmonitor.plugins.load", lambda _, name: SOURCES[name])
        )
        conf = configuration.new([], [])
        conf.set_override("sources", list(SOURCES), "agent")
        conf.set_override("reply_timeout", 0.2, "forwarder")
        directory = self.useFixture(fixtures.TempDir()).path
        conf.set_override("path", os.path.join(directory, "spool.db"), "spool")
        filters = defaults.path(defaults.EVENT_FILTERS)
        self.agent = AgentService(conf, self.useFixture(Bus(conf)).transport, lambda: filters)
        self.agent.start()
        self.addCleanup(self.agent.stop)

    def told(self, name):
        return self.agent.sources[name].told

    def event(self, source, type="lifecycle.started"):
        return RawEvent(source=source, type=type, detail="", occurred_at=1, instance=INSTANCE)

    def test_other_sources_follow_in_order(self):
        observed = [
            SourceSnapshot(source="first", started_at=1, why="start", seen=()),
            Reachability(source="first", reachable=True, at=1),
            self.event("first"),
            self.event("first", "graphics"),
        ]
        for one in observed:
            self.agent.sources["first"].observe(one)
        eventually(lambda: len(self.told("last")) == len(observed))
        self.assertEqual(observed, self.told("last"))
        self.assertEqual([], self.told("first"))
        self.assertEqual(1, self.agent.spool.depth)
        self.assertIn("Source broken failed to follow source first", self.log.output)

    def test_sources_are_told_apart_by_their_configured_name(self):
        own, others = self.event("last"), self.event("agent", "recovery.running")
        self.agent.sources["last"].observe(own)
        self.agent.pipeline.observe(others)
        eventually(lambda: self.told("last"))
        self.assertEqual([own, others], self.told("first"))
        self.assertEqual([others], self.told("last"))

    def test_process_exit_does_not_change_the_state(self):
        self.agent.sources["first"].observe(self.event("first"))
        self.agent.sources["first"].observe(self.event("first", "process.exited"))
        eventually(lambda: self.agent.spool.depth == 2)
        self.assertEqual("running", self.agent.inventory.get(INSTANCE.uuid).state)
