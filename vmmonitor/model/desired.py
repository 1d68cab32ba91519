# SPDX-License-Identifier: Apache-2.0
"""Define the desired state of instances, as an expectation returns it."""

import dataclasses
import enum
from collections.abc import Sequence

from vmmonitor.model.instance import Instance


class DesiredStatus(enum.StrEnum):
    """The desired status of an instance."""

    RUNNING = "running"
    #: It may exist without running, or not exist.
    STOPPED = "stopped"
    PAUSED = "paused"
    #: An operation is in progress: no statement until it has ended.
    BUSY = "busy"
    #: It was deleted: it must not exist on any host.
    GONE = "gone"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DesiredState:
    """The desired status and host of one instance.

    :param instance: the known facts about the instance; at least its uuid.
    :param host: the desired host, as the agents name their hosts (``CONF.host``, for nova
        ``OS-EXT-SRV-ATTR:host``); empty if unknown, or if any host is right.
    :param updated_at: when this became its desired state; microseconds since the epoch, 0 if
        unknown. Only shown to operators: no decision depends on it.
    """

    instance: Instance
    host: str
    state: DesiredStatus
    updated_at: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DesiredSnapshot:
    """The desired states of many instances, read at one time.

    :param states: at most one per instance; of several the last counts.
    :param whole: True: these are all instances; the expectation has no statement about others.
        False: these changed since the last snapshot; the states of others remain.
    :param until: the value of ``since`` for the next call; None requests a whole snapshot.
    """

    states: Sequence[DesiredState]
    whole: bool
    until: int | None = None
