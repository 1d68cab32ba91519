# SPDX-License-Identifier: Apache-2.0
"""Test a storm of real guests on one failing disk, and their recovery after its repair."""

from vmmonitor.db import incidents
from vmmonitor.db.page import Page
from vmmonitor.model.states import IncidentState
from vmmonitor.tests.fixtures.faulty_disk import FaultyDisk
from vmmonitor.tests.live.base import PATIENCE_S, WholeTest
from vmmonitor.tests.promises import shows

RESUME = """
version: 1
policies:
- name: storage-error
  match: {detail: {in: [pause, ioerror]}}
  hold: 10
  steps:
  - driver: libvirt
    attempts: -1
    timeout: 10
    wait_for: running
    wait: 5
    backoff: {initial: 0.5, factor: 1, max: 1, jitter: 0.1}
"""
#: A short success delay, and no second probe.
SOON = {"probe_success_delay": 1, "probe_interval": 300}
GUESTS = 4


@shows("P6")
class TestSharedDisk(WholeTest):
    def setUp(self):
        super().setUp()
        self.deploy(options={"storm": SOON})
        self.disk = self.useFixture(FaultyDisk(self.hypervisor()))
        self.broken = [
            self.guest(disks=[self.disk.disk("stop")], defined=True) for _ in range(GUESTS)
        ]
        self.watched()
        for number in (1, 2):
            engine = self.deployment.engine(f"engine-{number}", self.policies(RESUME))
            self.start(engine)

    def storms(self):
        wanted = Page(limit=99, filters={"kind": "storm"})
        return self.deployment._read(incidents.page, wanted)

    def members(self, storm):
        return self.deployment._read(
            incidents.page, Page(limit=99, filters={"part_of": storm.incident_id})
        )

    def test_shared_storage_failure_recovers_one_then_all(self):
        self.disk.fail()
        for guest in self.broken:
            guest.order("D", timeout=1)
        self.wait(self.storms, "no storm")
        (storm,) = self.storms()
        self.assertEqual("storm.storage", storm.cause)
        self.assertRegex(storm.shared_cause, "^storage:node-1:nbd:unix:/.*sock$")
        self.wait(self.one_is_probed, "no probe")
        self.assertEqual([IncidentState.RECOVERING], self.beside_held())
        self.disk.heal()
        for guest in self.broken:
            self.wait(lambda guest=guest: self.is_over(guest), f"{guest.name}: not resolved")
            self.assertTrue(guest.ping(PATIENCE_S), "the guest does not answer")
        (storm,) = self.storms()
        self.assertEqual(IncidentState.RESOLVED, storm.state)
        self.assertEqual("an instance on this storage runs again", storm.reason)
        # No other driver call was made while the disk failed.
        late = [one for one in self.members(storm) if self.first_call(one) >= storm.closed_at]
        self.assertEqual(GUESTS - 1, len(late))

    def beside_held(self):
        (storm,) = self.storms()
        return [one.state for one in self.members(storm) if one.state != IncidentState.HELD]

    def one_is_probed(self):
        (storm,) = self.storms()
        words = [one.state for one in self.members(storm)]
        return sorted(words) == sorted(
            [IncidentState.HELD] * (GUESTS - 1) + [IncidentState.RECOVERING]
        )

    def is_over(self, guest):
        return set(self.states(guest)) == {IncidentState.RESOLVED}

    def first_call(self, incident):
        return self.deployment.recoveries(incident.incident_id)[0].called_at
