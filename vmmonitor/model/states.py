# SPDX-License-Identifier: Apache-2.0
"""The state machines, as data. A state changes only along a row of these tables.

Every change is one guarded UPDATE (``... WHERE state = <the old one>``), so of any number of
engines that try the same move exactly one makes it.
"""

from collections.abc import Mapping

from vmmonitor.model import errors

# -- incident ----------------------------------------------------------------------------------
#: A failure was reported; waits until hold_until in case it was planned or heals by itself.
PENDING = "pending"
#: It is a failure, and nothing acts on it (any more): no policy wants to.
OPEN = "open"
#: A recovery is due, running, or waits for the instance to run again.
RECOVERING = "recovering"
#: Nothing acts until it is released: by an operator, or at hold_until, when the expectation is
#: asked again (unknown verdict, budget, storm fuse).
HELD = "held"
#: Muted by an operator, or by a host's maintenance; examined again at hold_until, when that ends.
SILENCED = "silenced"
#: The instance runs again. Over.
RESOLVED = "resolved"
#: Every step of the policy was tried in vain. Over, unless an operator has it tried again.
FAILED = "failed"
#: It was planned, or the instance is gone. Over.
IGNORED = "ignored"

#: incident state -> {what happens: next state}. One sentence each: who causes it. Of a host, which
#: is left to people at once, "run" means that it is watched again.
INCIDENT: Mapping[str, Mapping[str, str]] = {
    PENDING: {
        "confirm": RECOVERING,  # the hold is over, the verdict is "failed", a policy acts
        "leave": OPEN,  # the same, but no policy step acts on it
        "run": RESOLVED,  # the instance was seen running again before anybody acted
        "plan": IGNORED,  # the expectation says that it was planned, or the instance is gone
        "hold": HELD,  # the verdict is "unknown": never act blindly
        "silence": SILENCED,  # an operator's silence matches
    },
    OPEN: {
        "confirm": RECOVERING,
        "release": PENDING,  # a further failure came in, on which a policy acts
        "run": RESOLVED,
        "plan": IGNORED,
        "hold": HELD,  # by an operator
    },
    HELD: {
        "confirm": RECOVERING,  # asked again, the expectation knows: failed
        "leave": OPEN,
        "release": PENDING,  # somebody or something lets it go on
        "silence": SILENCED,
        "run": RESOLVED,
        "plan": IGNORED,
    },
    SILENCED: {
        "confirm": RECOVERING,  # asked again, no silence matches any more
        "leave": OPEN,
        "hold": HELD,
        "release": PENDING,  # an operator ends it for this incident
        "run": RESOLVED,
        "plan": IGNORED,
    },
    RECOVERING: {
        "run": RESOLVED,  # the recovery succeeded
        "give_up": FAILED,  # the last attempt of the last step failed
        "leave": OPEN,  # the driver's part is done, and nothing waits to see the instance run
        "plan": IGNORED,  # a driver found that there is nothing to recover
        "hold": HELD,  # an operator cancelled its recovery
    },
    RESOLVED: {},
    FAILED: {
        "retry": PENDING,  # an operator has it tried again
    },
    IGNORED: {},
}
INCIDENT_OPEN = frozenset(INCIDENT) - {RESOLVED, FAILED, IGNORED}

# -- recovery ----------------------------------------------------------------------------------
#: To be started at not_before, by whichever engine claims it.
REQUESTED = "requested"
#: An engine holds its lease and is calling the driver.
RUNNING = "running"
#: The driver has done its part; the instance has not been seen running yet.
WAITING = "waiting"
#: The instance runs again, or the driver's part was all that was asked for.
SUCCEEDED = "succeeded"
#: The driver failed, or the instance did not run again in time. (Also: FAILED)
#: There was nothing to do.
SKIPPED = "skipped"
#: Its incident ended some other way first.
CANCELLED = "cancelled"

#: recovery state -> {what happens: next state}.
RECOVERY: Mapping[str, Mapping[str, str]] = {
    REQUESTED: {
        "claim": RUNNING,  # an engine takes its lease
        "cancel": CANCELLED,
    },
    RUNNING: {
        "take_over": RUNNING,  # the lease ran out: another engine goes on with it
        "wait": WAITING,  # the driver did its part
        "succeed": SUCCEEDED,
        "fail": FAILED,
        "skip": SKIPPED,
    },
    WAITING: {
        "succeed": SUCCEEDED,  # the instance was seen running
        "fail": FAILED,  # it was not, in time
        "cancel": CANCELLED,
    },
    SUCCEEDED: {},
    FAILED: {},
    SKIPPED: {},
    CANCELLED: {},
}
RECOVERY_ACTIVE = frozenset(state for state, moves in RECOVERY.items() if moves)

# -- request -----------------------------------------------------------------------------------
#: (Also: REQUESTED) It was done.
DONE = "done"
#: It cannot be done; the message of the request says why.
REFUSED = "refused"

#: request state -> {what happens: next state}.
REQUEST: Mapping[str, Mapping[str, str]] = {
    REQUESTED: {
        "do": DONE,  # an engine carried it out
        "refuse": REFUSED,  # the incident is not in a state for it, or nothing could act
    },
    DONE: {},
    REFUSED: {},
}

# -- agent -------------------------------------------------------------------------------------
#: Reports in time, sees its host, and its spool empties.
UP = "up"
#: Has not reported for too long. Set by the engine.
LATE = "late"
#: Cannot reach libvirt. Says nothing of the instances.
BLIND = "blind"
#: Its spool holds more than the mark.
BEHIND = "behind"
#: Was stopped on purpose.
STOPPED = "stopped"
AGENT = (UP, LATE, BLIND, BEHIND, STOPPED)


def after(table: Mapping[str, Mapping[str, str]], state: str, move: str) -> str:
    """Return the state that ``move`` leads to from ``state``.

    :param table: INCIDENT or RECOVERY.
    :raises vmmonitor.model.errors.IllegalMove: the table has no such move.
    """
    try:
        return table[state][move]
    except KeyError:
        raise errors.IllegalMove(state=state, move=move) from None
