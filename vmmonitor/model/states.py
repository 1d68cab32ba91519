# SPDX-License-Identifier: Apache-2.0
"""Define the states of incidents, recoveries, operator requests and agents, and their transitions.

Each state change is one guarded UPDATE (``... WHERE state = <the old state>``). Of any number of
engines that attempt the same transition, exactly one succeeds.
"""

import enum
from collections.abc import Mapping
from typing import Any, TypeVar

from vmmonitor.model import errors

State = TypeVar("State", bound=enum.StrEnum)


# -- incidents ---------------------------------------------------------------------------------
class IncidentState(enum.StrEnum):
    """The state of an incident."""

    #: A failure was reported; waits until ``hold_until`` in case it was planned or is transient.
    PENDING = "pending"
    #: It is a failure, and no policy acts on it, or only an operator may act.
    UNHANDLED = "unhandled"
    #: A recovery is due, is running, or waits for the instance to run again.
    RECOVERING = "recovering"
    #: No action until an operator releases it, or until ``hold_until``, when the verdict is
    #: requested again. ``held_by`` names the reason.
    HELD = "held"
    #: Muted by a silence or by the maintenance of a host; examined again at ``hold_until``.
    SILENCED = "silenced"
    #: Closed: the instance runs again.
    RESOLVED = "resolved"
    #: Closed: every step of the policy failed. An operator can request a retry.
    UNRECOVERED = "unrecovered"
    #: Closed: the operation was planned, or the instance does not exist any longer.
    IGNORED = "ignored"


class IncidentTransition(enum.StrEnum):
    """A change of an incident's state, named after its cause."""

    #: The verdict is "failed", and a policy acts.
    CONFIRM = "confirm"
    #: The incident stays a failure, and no policy step acts on it.
    LEAVE = "leave"
    #: The instance was seen running again. Of a host incident: its agent reports again.
    RUN = "run"
    #: The verdict is "planned" or "gone".
    PLAN = "plan"
    #: An admission check denied the recovery, the verdict is "unknown", or an operator holds it.
    HOLD = "hold"
    #: A silence or a maintenance of the host applies.
    SILENCE = "silence"
    #: An operator, or a further failure, has the incident examined again.
    RELEASE = "release"
    #: The last attempt of the last step failed.
    GIVE_UP = "give_up"
    #: An operator, or the end of a storm, has a closed incident recovered again.
    RETRY = "retry"


_ENDED_WITHOUT_ACTION = {
    IncidentTransition.RUN: IncidentState.RESOLVED,
    IncidentTransition.PLAN: IncidentState.IGNORED,
}

#: Incident state -> transition -> next state.
INCIDENT_TRANSITIONS: Mapping[IncidentState, Mapping[IncidentTransition, IncidentState]] = {
    IncidentState.PENDING: {
        IncidentTransition.CONFIRM: IncidentState.RECOVERING,
        IncidentTransition.LEAVE: IncidentState.UNHANDLED,
        IncidentTransition.HOLD: IncidentState.HELD,
        IncidentTransition.SILENCE: IncidentState.SILENCED,
        **_ENDED_WITHOUT_ACTION,
    },
    IncidentState.UNHANDLED: {
        IncidentTransition.CONFIRM: IncidentState.RECOVERING,
        IncidentTransition.RELEASE: IncidentState.PENDING,
        IncidentTransition.HOLD: IncidentState.HELD,
        **_ENDED_WITHOUT_ACTION,
    },
    IncidentState.HELD: {
        IncidentTransition.CONFIRM: IncidentState.RECOVERING,
        IncidentTransition.LEAVE: IncidentState.UNHANDLED,
        IncidentTransition.RELEASE: IncidentState.PENDING,
        IncidentTransition.SILENCE: IncidentState.SILENCED,
        **_ENDED_WITHOUT_ACTION,
    },
    IncidentState.SILENCED: {
        IncidentTransition.CONFIRM: IncidentState.RECOVERING,
        IncidentTransition.LEAVE: IncidentState.UNHANDLED,
        IncidentTransition.HOLD: IncidentState.HELD,
        IncidentTransition.RELEASE: IncidentState.PENDING,
        **_ENDED_WITHOUT_ACTION,
    },
    IncidentState.RECOVERING: {
        IncidentTransition.GIVE_UP: IncidentState.UNRECOVERED,
        # The driver has succeeded, and the step does not wait until the instance runs; or it found
        # nothing to recover, although the verdict was "failed".
        IncidentTransition.LEAVE: IncidentState.UNHANDLED,
        # An operator cancelled the recovery.
        IncidentTransition.HOLD: IncidentState.HELD,
        **_ENDED_WITHOUT_ACTION,
    },
    IncidentState.RESOLVED: {},
    IncidentState.UNRECOVERED: {
        IncidentTransition.RETRY: IncidentState.PENDING,
    },
    IncidentState.IGNORED: {},
}

CLOSED_INCIDENT_STATES = frozenset(
    {IncidentState.RESOLVED, IncidentState.UNRECOVERED, IncidentState.IGNORED}
)
#: ``--open`` and the filter ``open`` select these; ``unhandled`` is one of them.
OPEN_INCIDENT_STATES = frozenset(IncidentState) - CLOSED_INCIDENT_STATES


# -- recoveries --------------------------------------------------------------------------------
class RecoveryState(enum.StrEnum):
    """The state of one recovery attempt."""

    #: To be started at ``not_before``, by the first engine that claims it.
    REQUESTED = "requested"
    #: An engine holds the lease and is calling the driver.
    RUNNING = "running"
    #: The driver has succeeded; the instance was not seen running yet.
    WAITING = "waiting"
    #: The instance runs again, or the driver succeeded and the step does not wait for that.
    SUCCEEDED = "succeeded"
    #: The driver failed, or the instance did not run again in time.
    FAILED = "failed"
    #: The driver found nothing to recover.
    SKIPPED = "skipped"
    #: The incident ended in another way first.
    CANCELLED = "cancelled"


class RecoveryTransition(enum.StrEnum):
    """A change of a recovery's state, named after its cause."""

    #: An engine takes the lease of a requested recovery.
    CLAIM = "claim"
    #: The incident ended in another way, its instance was stopped on purpose or is gone, or an
    #: operator cancelled the recovery. Of a running recovery, only after a takeover.
    CANCEL = "cancel"
    #: The lease expired, and another engine continues.
    TAKE_OVER = "take_over"
    #: The driver succeeded, and the instance must be seen running.
    WAIT = "wait"
    #: The instance was seen running, or the driver succeeded and the step does not wait for that.
    SUCCEED = "succeed"
    #: The driver failed, or the instance was not seen running in time.
    FAIL = "fail"
    #: The driver found nothing to recover.
    SKIP = "skip"


#: Recovery state -> transition -> next state.
RECOVERY_TRANSITIONS: Mapping[RecoveryState, Mapping[RecoveryTransition, RecoveryState]] = {
    RecoveryState.REQUESTED: {
        RecoveryTransition.CLAIM: RecoveryState.RUNNING,
        RecoveryTransition.CANCEL: RecoveryState.CANCELLED,
    },
    RecoveryState.RUNNING: {
        RecoveryTransition.TAKE_OVER: RecoveryState.RUNNING,
        RecoveryTransition.WAIT: RecoveryState.WAITING,
        RecoveryTransition.SUCCEED: RecoveryState.SUCCEEDED,
        RecoveryTransition.FAIL: RecoveryState.FAILED,
        RecoveryTransition.SKIP: RecoveryState.SKIPPED,
        RecoveryTransition.CANCEL: RecoveryState.CANCELLED,
    },
    RecoveryState.WAITING: {
        RecoveryTransition.SUCCEED: RecoveryState.SUCCEEDED,
        RecoveryTransition.FAIL: RecoveryState.FAILED,
        RecoveryTransition.CANCEL: RecoveryState.CANCELLED,
    },
    RecoveryState.SUCCEEDED: {},
    RecoveryState.FAILED: {},
    RecoveryState.SKIPPED: {},
    RecoveryState.CANCELLED: {},
}
ACTIVE_RECOVERY_STATES = frozenset(
    {RecoveryState.REQUESTED, RecoveryState.RUNNING, RecoveryState.WAITING}
)


# -- operator requests -------------------------------------------------------------------------
class RequestState(enum.StrEnum):
    """The state of an operator request."""

    #: An engine has not carried it out yet.
    REQUESTED = "requested"
    DONE = "done"
    #: It cannot be carried out; the message of the request gives the reason.
    REFUSED = "refused"


class RequestTransition(enum.StrEnum):
    """A change of an operator request's state."""

    #: An engine carried it out.
    DO = "do"
    #: The incident is not in a state for it, or no policy could act.
    REFUSE = "refuse"


#: Request state -> transition -> next state.
REQUEST_TRANSITIONS: Mapping[RequestState, Mapping[RequestTransition, RequestState]] = {
    RequestState.REQUESTED: {
        RequestTransition.DO: RequestState.DONE,
        RequestTransition.REFUSE: RequestState.REFUSED,
    },
    RequestState.DONE: {},
    RequestState.REFUSED: {},
}


# -- agents ------------------------------------------------------------------------------------
class AgentState(enum.StrEnum):
    """The state of a host's agent."""

    #: Reports in time, reaches libvirt, and its events are not delayed.
    UP = "up"
    #: Has not reported in time. Set by an engine.
    LATE = "late"
    #: Cannot reach libvirt; the states of the instances on its host are unknown.
    BLIND = "blind"
    #: Its events are delayed: the spool is above its limit, or storing or sending them fails.
    BEHIND = "behind"
    #: An operator stopped it.
    STOPPED = "stopped"


def next_state(table: Mapping[State, Mapping[Any, State]], state: State, transition: str) -> State:
    """Return the state that a transition leads to.

    :param table: ``INCIDENT_TRANSITIONS``, ``RECOVERY_TRANSITIONS`` or ``REQUEST_TRANSITIONS``.
    :raises vmmonitor.model.errors.IllegalTransition: the table does not have this transition.
    """
    try:
        return table[state][transition]
    except KeyError:
        raise errors.IllegalTransition(state=state, transition=transition) from None
