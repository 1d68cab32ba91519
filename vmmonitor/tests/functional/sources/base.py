# SPDX-License-Identifier: Apache-2.0
"""What the tests of the libvirt source share; test:///default is libvirt's test driver."""

import contextlib
import dataclasses
import logging
import threading
import uuid

import fixtures
import libvirt
import testtools

from vmmonitor import conf
from vmmonitor.model.event import RawEvent, Reachability, SourceSnapshot
from vmmonitor.sources.libvirt import domain
from vmmonitor.sources.libvirt.connection import EVENT_LOOP
from vmmonitor.sources.libvirt.source import LibvirtSource
from vmmonitor.testing.guest import NovaMetadata
from vmmonitor.testing.processes import wait_until

URI = "test:///default"
TIMEOUT_S = 20.0


def new_conf(**options):
    """A configuration with these options of ``[libvirt]``."""
    made = conf.new([], [])
    defaults = {"uri": URI, "read_only": False, "reconnect_min": 0.01, "reconnect_max": 0.1}
    for name, value in (defaults | options).items():
        made.set_override(name, value, "libvirt")
    return made


def xml(name, instance_uuid, nova=None):
    """A domain of the test driver."""
    return f"""<domain type='test'><name>{name}</name><uuid>{instance_uuid}</uuid>
    <metadata>{nova.xml() if nova else ""}</metadata>
    <memory>1024</memory><os><type>hvm</type></os></domain>"""


def examine_running(found):
    """Return the state of a domain as the inventory remembers it: it ran on this host."""
    return dataclasses.replace(domain.examine(found), ran_here=True)


def threads(prefix="libvirt-"):
    """The names of the threads that still run."""
    return sorted(one.name for one in threading.enumerate() if one.name.startswith(prefix))


class Observed(list):
    """What a source told, in order."""

    def of(self, kind):
        """Only the observations of one kind."""
        return [one for one in list(self) if isinstance(one, kind)]

    def causes(self, instance_uuid):
        """The events of one instance, as type/detail."""
        return [
            f"{event.type}/{event.detail}" if event.detail else event.type
            for event in self.of(RawEvent)
            if event.instance.uuid == instance_uuid
        ]

    def reachable(self):
        """The Reachability observations, as True and False."""
        return [one.reachable for one in self.of(Reachability)]

    def listings(self):
        """The reasons of the listings."""
        return [one.why for one in self.of(SourceSnapshot)]


class FakePermit:
    """Permits each effect, or none.

    :ivar done: the effects that happened.
    :ivar questions: number of questions.
    """

    def __init__(self, obstacle=""):
        self.obstacle = obstacle
        self.done = []
        self.questions = 0

    def find_obstacle(self):
        self.questions += 1
        return self.obstacle

    def effect_done(self, action):
        self.done.append(action)


class StopRecorder:
    """Records the calls about a forced stop."""

    def __init__(self):
        self.calls = []

    def forced_stop_begins(self):
        self.calls.append("begins")

    def forced_stop_failed(self):
        self.calls.append("failed")


class LibvirtTest(testtools.TestCase):
    """Has an event loop, a second connection to libvirt, and sources.

    ``resync_delays`` are the delays after which a source lists again.
    """

    resync_delays: tuple[float, ...] = ()

    def setUp(self):
        super().setUp()
        self.useFixture(
            fixtures.MonkeyPatch(
                "vmmonitor.sources.libvirt.source.RESYNC_DELAYS", self.resync_delays
            )
        )
        # A listener of another test that meets a foreign broker logs without end.
        self.useFixture(fixtures.LogHandler(logging.NullHandler()))
        self.log = self.useFixture(fixtures.FakeLogger("vmmonitor", level=logging.DEBUG))
        # A connection that is opened before libvirt has an event loop has no events.
        EVENT_LOOP.start()
        self.addCleanup(EVENT_LOOP.stop)

    def admin(self):
        """Open a connection for the test's own use."""
        admin = libvirt.open(URI)
        self.addCleanup(admin.close)
        return admin

    def source(self, observe=None, **options):
        """Start a source; returns it and what it tells."""
        observed = Observed()
        source = LibvirtSource(new_conf(**options), observe or observed.append)
        self.addCleanup(source.stop)
        source.start()
        return source, observed

    def wait(self, true, what):
        """Wait until something is true."""
        wait_until(true, TIMEOUT_S, f"never {what}")

    def new_domain(self, admin, persistent=False, nova=None):
        """Start a domain of the test driver; returns its uuid."""
        instance_uuid = str(uuid.uuid4())
        text = xml(f"domain-{instance_uuid[:8]}", instance_uuid, nova or NovaMetadata())
        if persistent:
            admin.defineXML(text).create()
        else:
            admin.createXML(text)
        self.addCleanup(self._remove, admin, instance_uuid)
        return instance_uuid

    def _remove(self, admin, instance_uuid):
        with contextlib.suppress(libvirt.libvirtError):
            domain = admin.lookupByUUIDString(instance_uuid)
            if domain.isActive():
                domain.destroy()
            domain.undefine()
