# SPDX-License-Identifier: Apache-2.0
"""Common parts of the live tests of the liveness source."""

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
#: Additional time on a loaded machine, in seconds.
LATE = 25.0


class LivenessTest(LiveTest):
    """Run a liveness source that follows a libvirt source, as in an agent."""

    def setUp(self):
        super().setUp()
        self.directory = self.useFixture(fixtures.TempDir()).path

    def liveness(self, hypervisor, follows=True, **options):
        """Start a source for a hypervisor; return the source and its observations.

        The three times are short: ``interval``, ``deadline``, ``window``.
        """
        conf = base.new_conf(uri=hypervisor.uri, read_only=True)
        times = {"interval": INTERVAL, "deadline": DEADLINE, "window": WINDOW}
        file = os.path.join(self.directory, "liveness.json")
        for name, value in (times | {"facts_file": file} | options).items():
            conf.set_override(name, value, "liveness")
        observed = base.Observed()
        source = LivenessSource(conf, observed.append)
        self.addCleanup(source.stop)
        if follows:
            self.source(source.follow, uri=hypervisor.uri)
        source.start()
        self.wait(lambda: observed.reachable() == [True], "reachable")
        return source, observed

    def rounds(self, source, number):
        """Wait until ``number`` more rounds have begun."""
        for _ in range(number):
            at = source._next_round_at
            deadline.eventually(lambda at=at: source._next_round_at > at, LATE, "a round")

    def measured(self, source, guest, seconds):
        """Wait until the measurements of a guest cover ``seconds`` without a gap."""

        def covers():
            watched = source._watched.get(guest.uuid)
            used = watched.judge._stalled._used if watched else []
            return used and used[-1][0] - used[0][0] >= seconds - 2 * INTERVAL

        deadline.eventually(covers, LATE + 4 * seconds, "measured long enough")

    def events_of(self, observed, guest):
        """Return the events of a guest."""
        return [one for one in observed.of(RawEvent) if one.instance.uuid == guest.uuid]

    def wait_for_causes(self, observed, guest, *causes, timeout=LATE):
        """Wait until a guest has exactly these causes; return the last event."""
        deadline.eventually(
            lambda: (
                observed.causes(guest.uuid)[: len(causes)] == list(causes)
                or len(observed.causes(guest.uuid)) > len(causes)
            ),
            timeout,
            f"{causes}, reported: {observed.causes(guest.uuid)}",
        )
        self.assertEqual(list(causes), observed.causes(guest.uuid))
        return self.events_of(observed, guest)[-1]
