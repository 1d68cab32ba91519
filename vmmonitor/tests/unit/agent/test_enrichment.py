# SPDX-License-Identifier: Apache-2.0
"""Attributes that the agent adds to events."""

import os

import fixtures
import testtools

from vmmonitor import conf as configuration
from vmmonitor.agent.enrichment import HostShutdown, StorageAttribution
from vmmonitor.agent.inventory import Inventory
from vmmonitor.tests.unit.agent.base import raw

CAUSES = ("lifecycle.stopped/failed", "process.exited", "lifecycle.suspended/ioerror")


class HostShutdownTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.path = os.path.join(self.useFixture(fixtures.TempDir()).path, "nologin")
        conf = configuration.new([], files=[])
        conf.set_override("going_down_file", self.path, "agent")
        self.shutdown = HostShutdown(conf)

    def attributes(self):
        return [self.shutdown.attributes_of(raw(cause), {}) for cause in CAUSES]

    def test_stops_during_a_shutdown_of_the_host_have_an_attribute(self):
        open(self.path, "w").close()
        self.assertEqual([{"host_going_down": True}] * 2 + [{}], self.attributes())

    def test_stops_at_other_times_have_no_attribute(self):
        self.assertEqual([{}] * 3, self.attributes())


class StorageAttributionTest(testtools.TestCase):
    def test_disk_error_of_an_unknown_instance_has_no_storage(self):
        attribution = StorageAttribution(Inventory({}))
        self.assertEqual({}, attribution.attributes_of(raw("io_error/pause"), {}))
