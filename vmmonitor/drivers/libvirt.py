# SPDX-License-Identifier: Apache-2.0
"""Have the agent on the instance's host start, reset or resume the instance through libvirt."""

from collections.abc import Mapping, Sequence
from typing import Any

from vmmonitor.drivers import Driver
from vmmonitor.model import errors
from vmmonitor.model.clock import SECOND
from vmmonitor.model.event import HUNG, STALLED, Event, taken_back
from vmmonitor.model.order import RecoveryOrder
from vmmonitor.model.recovery import Outcome, RecoveryRequest
from vmmonitor.model.states import RecoveryTransition

#: Actions of the agent; the instance must then be seen running.
SUCCESSFUL_ACTIONS = frozenset({"started", "created", "reset", "resumed", "none"})
#: The agent checked the instance and must not touch it.
REFUSED_ACTION = "refused"

#: Types, or types with a detail, of events that report a failure. Errors that the guest handles,
#: such as a disk error that it received, are not in the list.
FAILURES = frozenset(
    {
        "io_error/pause",
        "lifecycle.crashed",
        "lifecycle.stopped",
        "lifecycle.suspended",
        "liveness.paused",
        f"{STALLED}/failed",
        "watchdog/pause",
        "watchdog/poweroff",
        "watchdog/reset",
        "watchdog/shutdown",
    }
)
#: Events that end a QEMU process or start a new one, so that earlier hangs are over.
PROCESS_CHANGES = frozenset({"lifecycle.started", "lifecycle.stopped"})


class LibvirtDriver(Driver):
    """Requests the recovery from the agent, which chooses the action by the instance's state."""

    def recover(self, request: RecoveryRequest) -> Outcome:
        """Send one order. The agent recognizes a repeated order by the recovery's id."""
        return self.recover_within(request, request.timeout)

    def recover_within(self, request: RecoveryRequest, timeout: float) -> Outcome:
        """Send one order that the agent carries out within ``timeout`` seconds."""
        host = request.incident.host
        try:
            response = self.agents.recover(host, build_order(request, timeout))
        except errors.Retriable as error:
            message = f"the agent on {host} did not respond: {error}"
            move = RecoveryTransition.FAIL
            return Outcome(move=move, message=message, retry=True, answered=False)
        if not _is_valid(response):
            message = f"invalid response of the agent on {host}: {str(response)[:200]}"
            return Outcome(move=RecoveryTransition.FAIL, message=message)
        return _outcome(response)


def build_order(request: RecoveryRequest, timeout: float) -> RecoveryOrder:
    """Return the order for the agent.

    It expires with the timeout of the step, counted from the claim by the engines' clock: the
    engine does not wait longer, so that nothing may begin later.

    :param timeout: maximum duration on the agent, in seconds.
    """
    recovery = request.recovery
    claimed_at = recovery.called_at or recovery.created_at
    return RecoveryOrder(
        instance_uuid=recovery.instance_uuid,
        recovery_id=recovery.recovery_id,
        token=recovery.token,
        expires_at=claimed_at + round(request.timeout * SECOND),
        timeout=timeout,
        cause=newest_failure(request.events),
    )


def newest_failure(events: Sequence[Event]) -> str:
    """Return the cause of the newest failure, or of an earlier hang that still lasts.

    A QEMU process that hangs keeps hanging, even if libvirt reports changes of its guest, and
    nothing else can be done about the instance.

    :param events: oldest first.
    """
    newest = ""
    over: set[str] = set()
    for event in reversed(events):
        over |= taken_back(event)
        if event.type in over:
            continue
        if event.type == HUNG:
            return event.cause
        if not newest and FAILURES & {event.type, event.cause}:
            newest = event.cause
        if event.type in PROCESS_CHANGES:
            break
    return newest


def _is_valid(response: Any) -> bool:
    """Return whether a response from the network has the fields that are read."""
    if not isinstance(response, Mapping) or not isinstance(response.get("ok"), bool):
        return False
    if not isinstance(response.get("retry", False), bool):
        return False
    if any(not isinstance(response.get(key, ""), str) for key in ("message", "state", "reason")):
        return False
    return not response["ok"] or response.get("action") in (*SUCCESSFUL_ACTIONS, REFUSED_ACTION)


def _outcome(response: Mapping[str, Any]) -> Outcome:
    action = response.get("action")
    state = f"{action}, and the instance is {response.get('state')} ({response.get('reason')})"
    message = response.get("message") or state
    if action == REFUSED_ACTION:
        return Outcome(move=RecoveryTransition.SKIP, message=message)
    if response["ok"]:
        return Outcome(move=RecoveryTransition.WAIT, message=message)
    return Outcome(
        move=RecoveryTransition.FAIL, message=message, retry=response.get("retry", False)
    )
