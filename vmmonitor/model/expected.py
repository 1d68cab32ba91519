# SPDX-License-Identifier: Apache-2.0
"""What instances should be doing (Expected, Survey), what the agents say of them (Sight, Watch),
and where the two differ (Mismatch)."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from vmmonitor.model import instance as states
from vmmonitor.model.instance import Instance, Seen

#: It should run.
RUNNING = "running"
#: It should be there and not run, or not be there: both are fine.
STOPPED = "stopped"
#: It should be paused.
PAUSED = "paused"
#: Something is being done to it on purpose: no statement, until that is over.
BUSY = "busy"
#: It was deleted: it should be nowhere.
GONE = "gone"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """What one instance should be doing, and where.

    :param instance: as much as is known of it; at least its uuid.
    :param host: where it should be, as the agents name their hosts (``CONF.host``, for nova
        ``OS-EXT-SRV-ATTR:host``); empty if anywhere, or not known.
    :param state: RUNNING, STOPPED, PAUSED, BUSY or GONE.
    :param updated_at: since when, if that is known; microseconds since the epoch, else 0. For a
        person to read: nothing is decided by it.
    """

    instance: Instance
    host: str
    state: str
    updated_at: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """What an expectation says of many instances at once.

    :param expected: at most one per instance; the last counts if there are more.
    :param whole: these are all, and of any other instance the expectation says nothing (any
        more). False: these changed since the last survey, what was said of others still holds.
    :param until: what to pass as ``since`` the next time; None asks for the whole again.
    """

    expected: Sequence[Expected]
    whole: bool
    until: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Sight:
    """One instance on one host, as the host's agent last told.

    :param seen: how it is there now; how it was when it was last there if it is not.
    :param present: whether it is in the host's inventory.
    :param lost_at: when it ceased to run there, if no event has told of that; microseconds
        since the epoch, engines' clock. 0: it runs there, an event told why not, or it never
        ran there.
    """

    host: str
    seen: Seen
    present: bool = True
    lost_at: int = 0


#: Reasons of a stop that somebody wanted: an instance that has one is not lost.
ON_PURPOSE = frozenset({"destroyed", "shutdown", "saved", "migrated", "from_snapshot"})
#: Reasons of a stop that nobody wanted.
BY_FAILURE = frozenset({"failed", "crashed"})


def lost_at(before: Sight | None, now: Seen | None, at: int) -> int:
    """Return ``Sight.lost_at`` of an instance of which a host's inventory says something new.

    :param before: what was said before; None if nothing.
    :param now: what is said now; None if nothing any more.
    :param at: when; microseconds since the epoch, engines' clock.
    """
    if now and now.state in states.ALIVE:
        return 0
    if now and now.state != states.SHUTOFF:
        # It could not be looked at.
        return before.lost_at if before else 0
    if now and now.reason in ON_PURPOSE:
        return 0
    if before is None:
        failed_to_start = now is not None and now.autostart and now.reason in BY_FAILURE
        return at if failed_to_start else 0
    ran = before.present and before.seen.state == states.RUNNING
    return before.lost_at or (at if ran else 0)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Watch:
    """How far a host's inventory can be trusted.

    :param state: of its agent; one of ``states.AGENT``.
    :param seen_at: when the agent's newest word came; microseconds, engines' clock.
    :param interval: seconds between its reports.
    :param digest: of the inventory that is stored.
    :param current: whether that is the one that the agent has.
    :param settled: whether the agent has no event left that is not stored.
    """

    host: str
    state: str
    seen_at: int
    interval: float
    digest: str
    current: bool
    settled: bool


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Mismatch:
    """One instance that is not as it should be.

    :param host: the host that this is about.
    :param hosts: all hosts whose word this rests on.
    :param type: ``reconcile.missing`` and so on.
    :param detail: how it is there instead, in libvirt's words; empty if it is not there.
    :param expected: one of the words above; empty if nothing is expected of it.
    :param facts: what else a person wants to know; JSON values. The same mismatch may have others.
    """

    instance: Instance
    host: str
    hosts: tuple[str, ...]
    type: str
    detail: str
    expected: str
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def key(self) -> str:
        """What it is, in one text of at most 255 characters: another key, another mismatch."""
        text = " ".join((self.type, self.detail or "-", self.expected or "-", *self.hosts))
        if len(text) <= 255:
            return text
        return f"{text[:190]} {hashlib.sha256(text.encode()).hexdigest()}"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Noted:
    """A mismatch as the engines remember it.

    Times are microseconds since the epoch, engines' clock.

    :param key: ``Mismatch.key``, of at most 255 characters.
    :param hosts: of the mismatch.
    :param first_seen_at: since when it is seen, without a break.
    :param last_seen_at: kept up until it is told.
    :param reported_key: key of the mismatch of this instance that was told last and is not over.
    :param event_id: of the event that told it.
    """

    instance: Instance
    host: str
    hosts: tuple[str, ...]
    key: str
    first_seen_at: int
    last_seen_at: int
    reported_key: str = ""
    event_id: str = ""
