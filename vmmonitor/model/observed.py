# SPDX-License-Identifier: Apache-2.0
"""Define the observed state of instances, as the agents' inventories report it."""

import dataclasses

from vmmonitor.model import instance as states
from vmmonitor.model.instance import Seen

#: Reasons of a stop that was requested: an instance with one of them is not lost.
REQUESTED_STOPS = frozenset({"destroyed", "shutdown", "saved", "migrated", "from_snapshot"})
#: Reasons of a stop that is a failure.
FAILED_STOPS = frozenset({"failed", "crashed"})


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ObservedInstance:
    """One instance on one host, as the host's agent last reported it.

    :param seen: the current state of the instance on the host; the last one if it is not present.
    :param present: whether it is in the host's inventory.
    :param lost_at: when it stopped running there without an event; microseconds since the epoch,
        engines' clock. 0 if it runs there, if an event gave the reason, or if it never ran there.
    """

    host: str
    seen: Seen
    present: bool = True
    lost_at: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class InventoryTrust:
    """The facts that decide whether the inventory of a host can be trusted.

    :param state: the state of its agent; one of ``states.AgentState``.
    :param seen_at: when the agent's newest message arrived; microseconds, engines' clock.
    :param interval: report interval of its agent, in seconds.
    :param digest: digest of the stored inventory.
    :param current: whether the agent has the same inventory.
    :param settled: whether the agent has no event that is not stored yet.
    """

    host: str
    state: str
    seen_at: int
    interval: float
    digest: str
    current: bool
    settled: bool


def lost_since(before: ObservedInstance | None, now: Seen | None, at: int) -> int:
    """Return ``ObservedInstance.lost_at`` of an instance whose inventory entry changes.

    :param before: the earlier entry; None without one.
    :param now: the new entry; None if the inventory does not have it any longer.
    :param at: time of the change; microseconds since the epoch, engines' clock.
    """
    if now and now.state in states.ALIVE:
        return 0
    if now and now.state != states.SHUTOFF:
        # Its state could not be read.
        return before.lost_at if before else 0
    if now and now.reason in REQUESTED_STOPS:
        return 0
    if before is None:
        failed_to_start = now is not None and now.autostart and now.reason in FAILED_STOPS
        return at if failed_to_start else 0
    ran = before.present and before.seen.state == states.RUNNING
    return before.lost_at or (at if ran else 0)
