# SPDX-License-Identifier: Apache-2.0
"""A host's clock that jumps by hours between events and listings."""

import testtools
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vmmonitor.agent.inventory import Inventory
from vmmonitor.model import instance as states
from vmmonitor.model.event import SourceSnapshot
from vmmonitor.model.instance import Instance, Seen
from vmmonitor.tests.unit.agent.base import UUID, raw

HOUR = 3_600_000_000
SECOND = 1_000_000
TELLS = {
    "lifecycle.started/booted": Seen(
        instance=Instance(uuid=UUID), state=states.RUNNING, reason="booted", run_id=1
    ),
    "lifecycle.suspended/paused": Seen(
        instance=Instance(uuid=UUID), state=states.PAUSED, reason="user", run_id=1
    ),
    "lifecycle.stopped/destroyed": Seen(
        instance=Instance(uuid=UUID), state=states.SHUTOFF, reason="destroyed"
    ),
}
#: What happens, whether its event is lost, and by how much the clock jumps then.
STEPS = st.lists(
    st.tuples(st.sampled_from(sorted(TELLS)), st.booleans(), st.sampled_from([-HOUR, 0, 0, HOUR])),
    max_size=20,
)


class ClockTest(testtools.TestCase):
    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(STEPS)
    def test_each_listing_finds_out_what_is_so_and_makes_nothing_up(self, steps):
        clock = 10_000 * HOUR
        inventory = Inventory({})
        believed = None
        for cause, lost, jump in steps:
            clock += SECOND
            truth = TELLS[cause]
            if not lost:
                inventory.apply_event(raw(cause, clock))
                believed = truth.state
            clock += jump + SECOND
            listing = SourceSnapshot(
                source="libvirt", started_at=clock, why="reconnect", seen=(truth,)
            )
            clock += SECOND
            missed = inventory.apply_listing(listing, clock)
            self.assertEqual(truth.state, inventory.get(UUID).state)
            if believed is not None:
                self.assertEqual(int(believed != truth.state), len(missed), (cause, lost, jump))
            believed = truth.state
