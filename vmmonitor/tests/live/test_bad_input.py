# SPDX-License-Identifier: Apache-2.0
"""Guests with the worst names and metadata that libvirt takes, from the callback to the database.

libvirt 9.0 takes any text of XML 1.0 without a slash as a name, if the file names that it makes of
it are not too long, and XML of up to 4 MiB. Of entities it drops the definitions and leaves the
references as they are.
"""

import os
import signal

import fixtures

from vmmonitor.agent.service import AgentService
from vmmonitor.db import events, incidents, inventories
from vmmonitor.db.page import Page
from vmmonitor.engine.service import EngineService
from vmmonitor.rpc.fields import printable
from vmmonitor.rules import defaults
from vmmonitor.sources import procfs
from vmmonitor.sources.libvirt.qemu_owner import read_owner
from vmmonitor.testing.deadline import eventually
from vmmonitor.testing.guest import Guest, NovaMetadata
from vmmonitor.tests.fixtures.bus import Bus
from vmmonitor.tests.fixtures.database import SQLite
from vmmonitor.tests.live.libvirt_base import LiveTest
from vmmonitor.tests.promises import shows

PATIENCE_S = 30.0
DIED = "lifecycle.stopped/failed"
STARTED = "lifecycle.started/booted"
NAMES = (
    "é 日本語 \N{GRINNING FACE} \N{RIGHT-TO-LEFT OVERRIDE}\x85",
    "<&>'\"`$(id);%s%n{0}\\",
    "tab\tline\nend",
    "..",
    "-x,y=z,",
    "n" * 60,
)
#: Nothing is done about any incident.
POLICIES = "version: 1\npolicies: []\n"
MIB = 2**20


class Metadata:
    """Arbitrary metadata with the interface of NovaMetadata."""

    def __init__(self, text):
        self._text = text

    def xml(self):
        return self._text


class Bomb(Guest):
    """A guest whose XML defines entities."""

    DOCTYPE = (
        '<!DOCTYPE domain [<!ENTITY a "expanded"><!ENTITY b "&a;&a;&a;&a;">'
        '<!ENTITY file SYSTEM "file:///etc/passwd">]>'
    )

    def _domain_xml(self, boot):
        return self.DOCTYPE + super()._domain_xml(boot)


@shows("P9")
class BadInputTest(LiveTest):
    def setUp(self):
        super().setUp()
        self.sqlite = self.useFixture(SQLite())
        self.conf = self.sqlite.conf
        directory = self.useFixture(fixtures.TempDir()).path
        self.conf.set_override("host", "compute-1")
        self.conf.set_override("path", os.path.join(directory, "spool.db"), "spool")
        self.conf.set_override("uri", self.hypervisor().uri, "libvirt")
        self.conf.set_override("sources", ["libvirt", "process", "qmp"], "agent")
        policies = os.path.join(directory, "policies.yaml")
        with open(policies, "w") as file:
            file.write(POLICIES)
        self.transport = self.useFixture(Bus(self.conf)).transport
        engine = EngineService(self.conf, lambda: self.transport, lambda: policies)
        engine.start()
        self.addCleanup(engine.stop)

    def agent(self):
        filters = defaults.path(defaults.EVENT_FILTERS)
        agent = AgentService(self.conf, self.transport, lambda: filters)
        agent.start()
        self.addCleanup(agent.stop)

        def sees():
            words = agent.reachability.reports.values()
            return len(words) == 3 and all(word.reachable for word in words)

        eventually(sees, PATIENCE_S, "the agent sees its host")
        return agent

    def stored(self, guest):
        """Return the events of a guest by their causes."""
        with self.sqlite.database.reader() as tx:
            page = events.page(tx, Page(limit=1000))
        mine = [one.event for one in page if one.event.instance.uuid == guest.uuid]
        return {event.cause: event for event in mine}

    def incident(self, guest):
        with self.sqlite.database.reader() as tx:
            page = incidents.page(tx, Page(limit=1000))
        (found,) = [one for one in page if one.instance.uuid == guest.uuid]
        return found

    def inventory(self, guest):
        """Return the engine's inventory entry of a guest, or None."""
        with self.sqlite.database.reader() as tx:
            held = inventories.present(tx, "compute-1")
        return next((one.instance for one in held if one.instance.uuid == guest.uuid), None)

    def die(self, guest, looked_at=STARTED):
        """Kill a guest; return the event of its end.

        :param looked_at: the cause of an event that comes when the agent has looked at it.
        """
        if looked_at:
            eventually(lambda: self.stored(guest).get(looked_at), PATIENCE_S)
        # libvirt escapes some names in the names of its files, so that those do not help.
        with guest.hypervisor.connection() as opened:
            owner = read_owner(opened)
        pids = [one.pid for one in procfs.find({guest.uuid}, owner).values()]
        os.kill(pids[0], signal.SIGKILL)
        return eventually(lambda: self.stored(guest).get(DIED), PATIENCE_S)

    def test_hostile_names_are_stored(self):
        agent = self.agent()
        for name in NAMES:
            guest = self.guest(name=name)
            died = self.die(guest)
            shown = printable(name)
            self.assertEqual((shown, shown), (died.instance.name, died.instance.hypervisor_name))
            self.assertEqual(shown, self.incident(guest).instance.name)
            eventually(lambda guest=guest: "process.exited" in self.stored(guest), PATIENCE_S)
        self.assertEqual(
            {}, {k: n for k, n in agent.pipeline.dropped.items() if k == "unreadable"}
        )
        self.assertEqual(0, agent.spool.refused_count)

    def test_hostile_names_are_listed_in_inventory(self):
        guests = [self.guest(name=name) for name in NAMES[:3]]
        self.agent()
        for guest in guests:
            found = eventually(lambda guest=guest: self.inventory(guest), PATIENCE_S)
            self.assertEqual(printable(guest.name), found.name)

    def test_metadata_of_a_mebibyte_is_accepted(self):
        self.agent()
        big = "é" + "x" * MIB
        long_name = self.guest(nova=NovaMetadata(name=big, flavor=big))
        instance = self.die(long_name).instance
        self.assertEqual((big[:255], big[:255]), (instance.name, instance.flavor))
        other = f"<x:much xmlns:x='http://example.com/'>{big}</x:much>"
        crowded = self.guest(nova=Metadata(NovaMetadata().xml() + other))
        self.assertEqual("server-1", self.die(crowded).instance.name)

    def test_metadata_that_libvirt_cannot_return_is_accepted(self):
        """libvirt writes six characters for each of these letters, and returns at most 4 MiB."""
        big = "é" * (MIB // 2)
        guest = self.guest(nova=NovaMetadata(name=big, flavor=big))
        agent = self.agent()
        seen = eventually(lambda: agent.inventory.get(guest.uuid), PATIENCE_S)
        self.assertEqual(("running", "booted"), (seen.state, seen.reason))
        self.assertEqual(guest.name, self.die(guest, looked_at="").instance.name)

    def test_metadata_entities_are_not_expanded(self):
        agent = self.agent()
        for reference in ("&b;", "&file;"):
            nova = NovaMetadata().xml().replace("server-1", f"[{reference}]")
            guest = self.useFixture(Bomb(self.hypervisor(), nova=Metadata(nova)))
            died = self.die(guest)
            # libvirt's result is not valid XML, so only its own name is available.
            self.assertEqual(guest.name, died.instance.name)
            seen = agent.inventory.get(guest.uuid)
            self.assertNotIn("expanded", seen.definition)
            self.assertNotIn("root:", seen.definition)
