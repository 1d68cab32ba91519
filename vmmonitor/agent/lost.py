# SPDX-License-Identifier: Apache-2.0
"""Instances that libvirt lost: their QEMU runs on, but libvirt does not run or have them. Pure.

It happens when libvirt starts without the state files of its running domains, for example in a new
container, or after a downgrade. Such an instance has not stopped: a start would be a second copy.
"""

import dataclasses
from collections.abc import Collection, Iterable
from typing import Any

from vmmonitor.agent.known import ENDED_PID, LOST_REASON, Known
from vmmonitor.model import instance as states
from vmmonitor.model.event import LOST, RawEvent, SourceSnapshot
from vmmonitor.model.instance import Seen

#: Minimum number of instances of a host whose joint disappearance is doubtful.
MIN_ALL = 2


def is_unexplained(seen: Seen) -> bool:
    """Return whether libvirt lists an instance as stopped, and has no reason for it."""
    return (seen.state, seen.reason) == (states.SHUTOFF, "unknown")


def find_lost_pid(known: Known | None, seen: Seen | None, listing: SourceSnapshot) -> int:
    """Return the QEMU process of an instance that libvirt lost; 0 if libvirt has not lost it.

    :param known: the last known state; None without one.
    :param seen: the listed state; None if the listing lacks the instance.
    """
    pid = (listing.processes or {}).get(_uuid(known, seen), 0)
    if not pid or (seen and (seen.state != states.SHUTOFF or seen.reason == "migrated")):
        return 0
    if known is None:
        return pid
    if known.is_up:
        # Another process of the instance is not the one that ran under this libvirt.
        return pid if known.pid in (0, ENDED_PID, pid) else 0
    return pid if known.pid == pid else 0


def _uuid(known: Known | None, seen: Seen | None) -> str:
    found = seen or (known.seen if known else None)
    return found.instance.uuid if found else ""


def mark_lost(known: Known | None, seen: Seen, pid: int, listing: SourceSnapshot) -> Known:
    """Return the state of an instance that libvirt lost.

    :param seen: the newest state that libvirt reported.
    """
    lost = dataclasses.replace(seen, state=states.LOST_STATE, reason=LOST_REASON)
    ending = bool(known and known.ending)
    return Known(seen=lost, changed_at=listing.started_at, pid=pid, ending=ending)


def build_lost_event(known: Known | None, now: Known, listing: SourceSnapshot) -> RawEvent:
    """Return the event of an instance that libvirt lost."""
    attributes: dict[str, Any] = {"noticed": listing.why, "pid": now.pid}
    if known:
        attributes |= {"was": known.seen.state, "was_known_at": known.changed_at}
    return RawEvent(
        source=listing.source,
        type=LOST,
        detail="",
        occurred_at=listing.started_at,
        instance=now.seen.instance,
        attributes=attributes,
    )


def find_unproven(
    gone: Iterable[Known], all_known: Collection[Known], listing: SourceSnapshot
) -> set[str]:
    """Return the instances whose end nothing proves, although a listing lacks them.

    The end is proven if the agent has reported the end of the process, if it sees the QEMU
    processes of this host, or if the host was started after the instance was last known to run.
    """
    sees = listing.processes is not None and (
        bool(listing.processes)
        or any(seen.state in states.ALIVE for seen in listing.seen)
        or any(known.pid > 0 for known in all_known)
    )
    if sees:
        return set()
    return {
        known.seen.instance.uuid
        for known in gone
        if known.changed_at >= listing.booted_at and known.pid != ENDED_PID
    }


def is_doubtful(count: int, total: int, limit: int) -> bool:
    """Return whether too many instances disappear at once to believe libvirt.

    :param count: number of instances that disappear, or that libvirt lost.
    :param total: number of instances that ran before.
    :param limit: maximum number; 0 for no limit.
    """
    return limit > 0 and (count > limit or (count == total and count >= MIN_ALL))


def describe_doubt(lost: int, unproven: int, total: int) -> str:
    """Return why libvirt is not believed."""
    found = f"libvirt does not run {lost + unproven} of {total} instances that ran"
    if not unproven:
        return f"{found}, and their QEMU processes live"
    if not lost:
        return f"{found}, and the agent cannot see whether their QEMU processes have ended"
    return f"{found}: {lost} QEMU processes live, the others cannot be seen"
