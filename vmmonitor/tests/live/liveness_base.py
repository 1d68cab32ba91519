# SPDX-License-Identifier: Apache-2.0
"""What the live tests of the liveness source share."""

import os

import fixtures

from vmmonitor.model.event import RawEvent
from vmmonitor.sources.libvirt.liveness.source import LivenessSource
from vmmonitor.testing import deadline
from vmmonitor.tests.functional.sources import base
from vmmonitor.tests.live.libvirt_base import LiveTest

INTERVAL = 0.5
DEADLINE = 2.0
WINDOW = 3.0
#: Seconds that a loaded machine may add.
LATE = 25.0


class LivenessTest(LiveTest):
    """Has a liveness source that follows a libvirt source, as in an agent."""

    def setUp(self):
        super().setUp()
        self.directory = self.useFixture(fixtures.TempDir()).path

    def liveness(self, hypervisor, follows=True, **options):
        """Watch a hypervisor; returns the source and what it tells.

        The three times are short: ``interval``, ``deadline``, ``window``.
        """
        conf = base.new_conf(uri=hypervisor.uri, read_only=True)
        times = {"interval": INTERVAL, "deadline": DEADLINE, "window": WINDOW}
        file = os.path.join(self.directory, "liveness.json")
        for name, value in (times | {"facts_file": file} | options).items():
            conf.set_override(name, value, "liveness")
        told = base.Observed()
        source = LivenessSource(conf, told.append)
        self.addCleanup(source.stop)
        if follows:
            self.source(source.follow, uri=hypervisor.uri)
        source.start()
        self.wait(lambda: told.reachable() == [True], "reachable")
        return source, told

    def rounds(self, source, number):
        """Wait until so many more rounds have begun."""
        for _ in range(number):
            at = source._round_at
            deadline.eventually(lambda at=at: source._round_at > at, LATE, "a round")

    def measured(self, source, guest, seconds):
        """Wait until the measures of a guest cover so many seconds without a gap."""

        def covers():
            watched = source._watched.get(guest.uuid)
            used = watched.judge._stalled._used if watched else []
            return used and used[-1][0] - used[0][0] >= seconds - 2 * INTERVAL

        deadline.eventually(covers, LATE + 4 * seconds, "measured long enough")

    def told(self, observed, guest):
        """What was told of a guest."""
        return [one for one in observed.of(RawEvent) if one.instance.uuid == guest.uuid]

    def eventually_told(self, observed, guest, *causes, timeout=LATE):
        """Wait until exactly these causes were told of a guest; returns the last event."""
        deadline.eventually(
            lambda: (
                observed.causes(guest.uuid)[: len(causes)] == list(causes)
                or len(observed.causes(guest.uuid)) > len(causes)
            ),
            timeout,
            f"{causes}, told was {observed.causes(guest.uuid)}",
        )
        self.assertEqual(list(causes), observed.causes(guest.uuid))
        return self.told(observed, guest)[-1]
