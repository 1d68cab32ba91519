# SPDX-License-Identifier: Apache-2.0
"""The rules of recoveries: state of a domain to action, obstacles and results. Pure."""

import dataclasses
import enum
from typing import Any, Protocol

from vmmonitor.model.event import HUNG, STALLED
from vmmonitor.model.inspection import ABSENT_STATE
from vmmonitor.model.instance import CRASHED, PAUSED, RUNNING, SHUTOFF, Seen
from vmmonitor.sources.libvirt import metadata


class DomainAction(enum.StrEnum):
    """Action on a domain.

    STOPPED is the first half of the recovery of a hung domain, followed by STARTED or CREATED.
    """

    STARTED = "started"
    CREATED = "created"
    RESET = "reset"
    RESUMED = "resumed"
    #: Nothing was done.
    NONE = "none"
    #: Nothing may be done.
    REFUSED = "refused"
    STOPPED = "stopped"


#: The actions that QEMU itself carries out, so that it cannot if it hangs.
BY_QEMU = frozenset({DomainAction.RESET, DomainAction.RESUMED, DomainAction.STOPPED})

#: The cause that makes a recovery reset a running instance.
STALL_CAUSE = f"{STALLED}/failed"
#: (state, reason) -> action. A state that is in neither table was intended (a pause by the user, a
#: migration, a snapshot) or is unknown: the action is refused.
ACTION_BY_REASON = {
    (RUNNING, "shutting_down"): DomainAction.REFUSED,
    # It runs on another host; a second copy would destroy its disks.
    (SHUTOFF, "migrated"): DomainAction.REFUSED,
    # A client of libvirt stopped it on purpose, after any earlier failure.
    (SHUTOFF, "destroyed"): DomainAction.REFUSED,
    (SHUTOFF, "saved"): DomainAction.REFUSED,
    (SHUTOFF, "from_snapshot"): DomainAction.REFUSED,
    (PAUSED, "crashed"): DomainAction.RESET,
    (PAUSED, "ioerror"): DomainAction.RESUMED,
    (PAUSED, "watchdog"): DomainAction.RESET,
}
ACTION_BY_STATE = {
    ABSENT_STATE: DomainAction.CREATED,
    RUNNING: DomainAction.NONE,
    SHUTOFF: DomainAction.STARTED,
    CRASHED: DomainAction.RESET,
}

#: Last reason of an instance that libvirt no longer has -> why it is not created again.
NOT_CREATED_AGAIN = {
    "migrated": "it was migrated to another host",
    "destroyed": "it was stopped on purpose",
    "saved": "it was saved to a file",
}
FAILED_ARRIVAL = (
    "it did not run on this host: its migration to this host failed, and it may still run on the "
    "other host"
)
NEVER_SEEN = "the agent has not seen it run on this host, so that it may run on another host"
PASSWORD_NOT_READ = "its definition may have had a password that was not read"
UNDEFINED = "its definition was removed from libvirt: it was deleted, or moved to another host"


class ForcedStopListener(Protocol):
    """Is called when a hung instance is stopped by force (``agent.endpoint.RecoveryEvents``)."""

    def forced_stop_begins(self) -> None:
        """Record that the instance is about to be stopped by force."""

    def forced_stop_failed(self) -> None:
        """Record that the instance was not stopped."""


class EffectPermit(Protocol):
    """Permits the effects of an order while the order is current (``agent.permits.Permit``)."""

    def find_obstacle(self) -> str:
        """Return why an effect must not begin now; empty if it may."""

    def effect_done(self, action: str) -> None:
        """Record that an effect has happened, possibly after the order has ended."""


class NotPermitted(Exception):
    """The order has ended, so that the effect was not begun."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DomainOrder:
    """A request to recover one instance; see ``DomainActions.recover``.

    :param deadline: CLOCK_BOOTTIME, in seconds; afterwards no action is started.
    """

    instance_uuid: str
    last: Seen | None
    deadline: float
    cause: str
    recovery_id: str
    stopped_by_recovery: bool
    listener: ForcedStopListener | None
    permit: EffectPermit | None = None

    @property
    def is_hung(self) -> bool:
        """True if the cause is a hung QEMU."""
        return self.cause.partition("/")[0] == HUNG


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ActionResult:
    """Result of an attempt to recover an instance.

    :param ok: the instance runs now.
    :param state: state of the instance afterwards, ``absent``, or empty if it is unknown.
    :param reason: libvirt's reason for that state.
    :param message: one sentence for an operator.
    :param retry: whether another attempt makes sense.
    """

    ok: bool
    action: DomainAction
    state: str = ""
    reason: str = ""
    message: str
    retry: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class FoundDomain:
    """A domain as libvirt has it.

    :param domain: a ``virDomain``; None if libvirt has none, and the state is ``absent``.
    """

    domain: Any
    state: str
    reason: str

    def is_same(self, other: "FoundDomain") -> bool:
        """Return whether the domain is still in the same run, state and reason."""
        if self.domain is None or other.domain is None:
            return False
        return (self.domain.ID(), self.state, self.reason) == (
            other.domain.ID(),
            other.state,
            other.reason,
        )


def choose_action(found: FoundDomain, order: DomainOrder, was_reset: bool) -> DomainAction:
    """Return the action that recovers a domain.

    :param was_reset: this recovery has reset the domain before.
    """
    state, reason = found.state, found.reason
    if order.stopped_by_recovery and (state, reason) == (SHUTOFF, "destroyed"):
        return DomainAction.STARTED
    action = ACTION_BY_REASON.get((state, reason)) or ACTION_BY_STATE.get(
        state, DomainAction.REFUSED
    )
    if action != DomainAction.NONE:
        return action
    if order.is_hung:
        return DomainAction.STOPPED
    if order.cause == STALL_CAUSE and not was_reset:
        return DomainAction.RESET
    return DomainAction.NONE


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Obstacle:
    """The reason why an action must not be carried out.

    :param is_planned: the state of the instance is intended, so that no recovery is needed.
        Otherwise the recovery fails: the agent lacks what it needs.
    """

    message: str
    is_planned: bool


def find_obstacle(action: DomainAction, found: FoundDomain, order: DomainOrder) -> Obstacle | None:
    """Return why an action must not be carried out; None if it may."""
    planned = _find_plan(action, found, order)
    if planned:
        return Obstacle(message=planned, is_planned=True)
    if action != DomainAction.CREATED:
        return None
    missing = _find_missing(order)
    return Obstacle(message=missing, is_planned=False) if missing else None


def _find_plan(action: DomainAction, found: FoundDomain, order: DomainOrder) -> str:
    """Return why the state of an instance is intended; empty if it may be a failure."""
    last = order.last
    if action == DomainAction.REFUSED:
        return f"{found.state} ({found.reason}) is not a failure"
    if last is None or action not in (DomainAction.STARTED, DomainAction.CREATED):
        return ""
    if last.ran_here is False:
        return FAILED_ARRIVAL
    if action == DomainAction.STARTED:
        return ""
    # libvirt removes a transient domain when it stops, a persistent one only on demand.
    if last.persistent and last.definition:
        return UNDEFINED
    if order.stopped_by_recovery and last.reason == "destroyed":
        return ""
    return NOT_CREATED_AGAIN.get(last.reason, "")


def _find_missing(order: DomainOrder) -> str:
    """Return what the agent lacks to create an instance again; empty if it lacks nothing."""
    last = order.last
    if last is None or not last.definition:
        return "libvirt does not have it, and the agent has no definition to create it from"
    if metadata.read_uuid(last.definition) != order.instance_uuid.lower():
        return "the stored definition is that of another instance"
    if not last.ran_here:
        return NEVER_SEEN
    return PASSWORD_NOT_READ if last.may_lack_password else ""


def describe_result(
    action: DomainAction, found: FoundDomain, unchanged: str = "it runs already"
) -> ActionResult:
    """Return the result of an action.

    :param found: the domain after the action.
    :param unchanged: message if nothing was done and the instance runs.
    """
    ok = found.state == RUNNING
    if ok:
        message = unchanged if action == DomainAction.NONE else f"it was {action} and runs"
    elif (found.state, found.reason) == (PAUSED, "ioerror"):
        message = "the storage error persists"
    else:
        message = f"it was {action}, then it was {found.state} ({found.reason})"
    return ActionResult(
        ok=ok,
        action=action,
        state=found.state,
        reason=found.reason,
        message=message,
        retry=not ok,
    )


def refuse(found: FoundDomain, message: str) -> ActionResult:
    """Return the result of a recovery that must not be carried out."""
    return ActionResult(
        ok=False,
        action=DomainAction.REFUSED,
        state=found.state,
        reason=found.reason,
        message=message,
    )


def fail(message: str, retry: bool, found: FoundDomain | None = None) -> ActionResult:
    """Return the result of a recovery that failed.

    :param found: the domain as it is, if it is known.
    """
    return ActionResult(
        ok=False,
        action=DomainAction.NONE,
        state=found.state if found else "",
        reason=found.reason if found else "",
        message=message,
        retry=retry,
    )
