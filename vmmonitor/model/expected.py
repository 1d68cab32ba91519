# SPDX-License-Identifier: Apache-2.0
"""What instances should be doing (Expected, Survey), and what the agents say of them (Sight)."""

import dataclasses
from collections.abc import Sequence

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
