# SPDX-License-Identifier: Apache-2.0
"""Define the host that an instance belongs to, and the claims of other hosts.

An instance belongs to the host that the expectation names, and otherwise to the host that reported
it first and has not announced its departure. The reports of another host are a claim: they are
stored, and change no incident.
"""

import dataclasses

from vmmonitor.model.clock import SECOND
from vmmonitor.model.event import RECOVERED, RUNNING_AGAIN, Event
from vmmonitor.model.instance import Instance
from vmmonitor.model.observed import REQUESTED_STOPS

#: Maximum time, in microseconds, from the report of the new host to the departure that the old
#: host reports about the same move. The clocks of hosts are corrected to less than that.
MOVE_TOLERANCE = 5 * SECOND

#: Detail of events about a migration: the instance left its host, or arrives on another one.
_MIGRATED = "migrated"
#: Cause of the event of an instance that was not found any longer after a time without monitoring.
VANISHED_CAUSE = "lifecycle.stopped/vanished"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """The host that an instance belongs to. Times are microseconds, engines' clock.

    :param since: when it became the owner.
    :param released_at: when it reported that the instance left it, or was stopped or removed on
        purpose, so that the next host that runs the instance becomes the owner; else None.
    """

    instance_uuid: str
    host: str
    since: int
    released_at: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HostClaim:
    """The reports of a host about an instance of another host.

    Times are microseconds since the epoch, engines' clock.

    :param since: when the first report arrived.
    :param last_at: when the newest report arrived, to within some seconds.
    :param running: whether the host has reported that it runs the instance.
    :param contested: whether the owner was monitored, and ran the instance, when the host first
        reported that it runs it. Such a claim is not believed without a confirmation.
    :param checked_at: when an engine last examined the claim.
    :param reported_at: when an event reported the claim; None before.
    """

    instance: Instance
    host: str
    since: int
    last_at: int
    running: bool
    contested: bool
    checked_at: int = 0
    reported_at: int | None = None


def shows_running(event: Event) -> bool:
    """Return whether an event of a host shows that the instance runs there.

    An instance that arrives by a migration does not run before it is resumed.
    """
    if event.type not in RUNNING_AGAIN or event.type == RECOVERED:
        return False
    return event.cause != f"lifecycle.started/{_MIGRATED}"


def is_departure(event: Event) -> bool:
    """Return whether the owner reports that an instance left it, or was stopped on purpose.

    A stop by a recovery, which starts the instance again, is not a departure, nor is the end of a
    process by another process of the host.
    """
    if event.type == "lifecycle.undefined" or event.cause == f"lifecycle.suspended/{_MIGRATED}":
        return True
    if event.type != "lifecycle.stopped" or event.detail not in REQUESTED_STOPS:
        return False
    # libvirt ends QEMU by a signal for a requested stop, too; only a stop without a request is one
    # by another process.
    by_host = event.detail == "shutdown" and event.attributes.get("shutdown_by") == "host"
    return not by_host and not event.attributes.get("ended_by")


def is_after_move(event: Event) -> bool:
    """Return whether a host reports the end of an instance that left it, or never ran there.

    A migration that fails ends with a failure on its target.
    """
    return bool({"was_arriving", "follows"} & set(event.attributes))


def may_follow(claim: HostClaim, left_at: int) -> bool:
    """Return whether a claim can be the arrival of an instance that left its owner.

    :param left_at: when it left; microseconds, engines' clock.
    """
    return claim.running and (not claim.contested or claim.since >= left_at - MOVE_TOLERANCE)
