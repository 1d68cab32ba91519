# SPDX-License-Identifier: Apache-2.0
"""A whole engine on SQLite and the in-process bus: its own sources and its rule files."""

import logging
import os

import fixtures
import testtools

from vmmonitor import plugins
from vmmonitor.db import events
from vmmonitor.db.page import Page
from vmmonitor.engine import service
from vmmonitor.engine.service import EngineService
from vmmonitor.model.errors import InvalidRules
from vmmonitor.model.event import RawEvent
from vmmonitor.model.instance import Instance
from vmmonitor.rules import defaults
from vmmonitor.sources import Source
from vmmonitor.testing.deadline import eventually
from vmmonitor.tests.fixtures.bus import Bus
from vmmonitor.tests.fixtures.database import SQLite
from vmmonitor.tests.functional.db import samples

FILTERS = """
version: 1
rules:
- {name: %s, match: {source: told}, action: record}
"""


class Told(Source):
    """Tells what a test says."""

    made: list["Told"] = []

    def start(self) -> None:
        self.made.append(self)

    def stop(self) -> None:
        if self in self.made:
            self.made.remove(self)


class Broken(Source):
    """Neither starts nor stops."""

    def start(self) -> None:
        raise ZeroDivisionError("a bug")

    def stop(self) -> None:
        raise ZeroDivisionError("another bug")


def load(namespace: str, name: str, usual=plugins.load):
    if namespace == "vmmonitor.expectation":
        name = "libvirt"
    return {"told": Told, "broken": Broken}.get(name) or usual(namespace, name)


class ServiceTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        sqlite = self.useFixture(SQLite())
        self.conf, self.database = sqlite.conf, sqlite.database
        self.conf.set_override("host", "engine-1")
        self.transport = self.useFixture(Bus(self.conf)).transport
        self.useFixture(fixtures.MonkeyPatch("vmmonitor.plugins.load", load))
        self.policies = defaults.path(defaults.RECOVERY_POLICIES)
        self.filters = os.path.join(self.useFixture(fixtures.TempDir()).path, "filters.yaml")
        self.write(FILTERS % "first")

    def write(self, text):
        with open(self.filters, "w") as file:
            file.write(text)

    def engine(self, *sources):
        self.conf.set_override("sources", list(sources), "engine")
        engine = EngineService(
            *(self.conf, lambda: self.transport, lambda: self.policies, lambda: self.filters)
        )
        engine.start()
        self.addCleanup(engine.stop)
        return engine

    def tell(self):
        (source,) = Told.made
        source.observe(
            RawEvent(
                source="told",
                type="instance.error",
                detail="",
                occurred_at=samples.NOON,
                instance=Instance(uuid=samples.new_id()),
                host="compute-7",
            )
        )

    def stored(self):
        with self.database.reader() as tx:
            found = events.page(tx, Page(limit=10, sort=[("id", "asc")]))
        return [(one.event.host, one.decision.rule) for one in found]

    def test_source_event_is_stored_beside_broken_source(self):
        self.engine("broken", "told")
        self.tell()
        eventually(lambda: self.stored() == [("compute-7", "first")])

    def test_reset_applies_valid_filters_and_keeps_them_after_invalid(self):
        engine = self.engine("told")
        for text in (FILTERS % "second", "version: 7"):
            self.write(text)
            engine.reset()
        self.tell()
        eventually(lambda: self.stored() == [("compute-7", "second")])

    def test_stop_stores_queued_events_and_stops_source(self):
        engine = self.engine("told")
        self.tell()
        engine.stop()
        self.assertEqual([("compute-7", "first")], self.stored())
        self.assertEqual([], Told.made)

    def test_check_raises_for_missing_source_and_invalid_filters(self):
        service.check(self.conf, self.policies, self.filters)
        self.conf.set_override("sources", ["nobodys"], "engine")
        check = (self.conf, self.policies, self.filters)
        self.assertRaises(plugins.NotInstalled, service.check, *check)
        self.conf.set_override("sources", [], "engine")
        self.write("version: 7")
        self.assertRaises(InvalidRules, service.check, *check)

    def test_start_with_nova_and_libvirt_policies_warns(self):
        self.conf.set_override("expectation", "nova", "engine")
        log = self.useFixture(fixtures.FakeLogger("vmmonitor.engine", level=logging.WARNING))
        self.engine()
        self.assertIn("No policy of ", log.output)
        self.assertIn("the drivers in use are: libvirt", log.output)
        self.assertIn("vmmonitor-manage policy sample openstack", log.output)

    def test_start_with_nova_and_openstack_policies_does_not_warn(self):
        self.conf.set_override("expectation", "nova", "engine")
        self.policies = defaults.path(defaults.OPENSTACK_POLICIES)
        log = self.useFixture(fixtures.FakeLogger("vmmonitor.engine", level=logging.WARNING))
        self.engine()
        self.assertNotIn("No policy of ", log.output)

    def test_reload_with_libvirt_policies_warns(self):
        self.conf.set_override("expectation", "nova", "engine")
        self.policies = defaults.path(defaults.OPENSTACK_POLICIES)
        log = self.useFixture(fixtures.FakeLogger("vmmonitor.engine", level=logging.WARNING))
        engine = self.engine()
        self.policies = defaults.path(defaults.RECOVERY_POLICIES)
        engine.reset()
        self.assertIn("No policy of ", log.output)

    def test_start_with_libvirt_expectation_does_not_warn(self):
        log = self.useFixture(fixtures.FakeLogger("vmmonitor.engine", level=logging.WARNING))
        self.engine()
        self.assertNotIn("No policy of ", log.output)
