# SPDX-License-Identifier: Apache-2.0
"""Has the agent on the instance's host start, reset or resume it through libvirt."""

from collections.abc import Mapping, Sequence
from typing import Any

from vmmonitor.drivers import Driver
from vmmonitor.model import errors
from vmmonitor.model.event import HUNG, STALLED, Event, taken_back
from vmmonitor.model.recovery import Outcome, RecoveryRequest

#: What the agent may have done; the instance must then be seen running.
DONE = frozenset({"started", "created", "reset", "resumed", "none"})
#: The agent looked, and the instance is not one to touch.
REFUSED = "refused"

#: Types, or types with a detail, of the events that tell of a failure. What the guest copes with
#: (a disk error that was handed to it) is none.
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
#: No QEMU that hung before these hangs still: it is another one.
NO_MORE = frozenset({"lifecycle.started", "lifecycle.stopped"})


class LibvirtDriver(Driver):
    """Asks the agent, which sees what state the instance is in and chooses what to do."""

    def recover(self, request: RecoveryRequest) -> Outcome:
        """Ask once. The agent knows the recovery by its id, so asking again does no harm."""
        host, recovery = request.incident.host, request.recovery
        try:
            answer = self.ask_agent(
                *(host, recovery.instance_uuid, recovery.recovery_id, request.timeout),
                cause=newest_failure(request.events),
            )
        except errors.Retriable as error:
            message = f"the agent on {host} did not answer: {error}"
            return Outcome(move="fail", message=message, retry=True)
        if not _is_answer(answer):
            message = (
                f"the agent on {host} gave an answer that cannot be read: {str(answer)[:200]}"
            )
            return Outcome(move="fail", message=message)
        return _outcome(answer)


def newest_failure(events: Sequence[Event]) -> str:
    """Return the kind of the newest failure; that of a hung QEMU if one came before it.

    A QEMU that hangs goes on to hang whatever libvirt says of its guest meanwhile, and nothing
    else can be done about the instance.

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
        if event.type in NO_MORE:
            break
    return newest


def _is_answer(answer: Any) -> bool:
    """Tell whether an answer has what is read of it. It comes over the network."""
    if not isinstance(answer, Mapping) or not isinstance(answer.get("ok"), bool):
        return False
    if not isinstance(answer.get("retry", False), bool):
        return False
    if any(not isinstance(answer.get(key, ""), str) for key in ("message", "state", "reason")):
        return False
    return not answer["ok"] or answer.get("action") in (*DONE, REFUSED)


def _outcome(answer: Mapping[str, Any]) -> Outcome:
    action = answer.get("action")
    seen = f"{action}, and the instance is {answer.get('state')} ({answer.get('reason')})"
    message = answer.get("message") or seen
    if action == REFUSED:
        return Outcome(move="skip", message=message)
    if answer["ok"]:
        return Outcome(move="wait", message=message)
    return Outcome(move="fail", message=message, retry=answer.get("retry", False))
