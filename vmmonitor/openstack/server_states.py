# SPDX-License-Identifier: Apache-2.0
"""Decide by the state of a server in nova whether the end of its guest is a failure. Pure.

A stop that libvirt was asked for is planned in every state. For any other end of a guest, the
state of the server and its actions decide: SITUATIONS contains the verdicts.
"""

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vmmonitor.model.incident import VerdictKind
from vmmonitor.openstack.nova import STATE_REASONS, TASK_STATE, VM_STATE

Action = Mapping[str, Any]


class SituationName(enum.StrEnum):
    """A state of a server, as far as the verdict on the end of its guest depends on it."""

    TASK = "task_state is set"
    ACTIVE = "ACTIVE"
    STOPPED_BY_USER = "SHUTOFF, stopped by a user"
    STOPPED_BY_NOVA = "SHUTOFF, stopped by nova or by vmmonitor, and running before"
    STOPPED_WHILE_RUNNING = "SHUTOFF, and no stop since a user started it"
    STOPPED_AT_REST = "SHUTOFF, stopped by nova, and paused or rescued before"
    STOPPED_UNEXPLAINED = "SHUTOFF, and no action explains it"
    ERROR_RUNNING = "ERROR of a running server after a start, reboot, snapshot or live migration"
    ERROR = "ERROR after any other action"
    RESIZED = "VERIFY_RESIZE"
    PAUSED = "PAUSED"
    RESCUED = "RESCUE"
    AT_REST = "SUSPENDED, SHELVED, SHELVED_OFFLOADED or SOFT_DELETED"
    DELETED = "DELETED"
    OTHER = "BUILD, or a state that vmmonitor does not know"


@dataclasses.dataclass(frozen=True, slots=True)
class Situation:
    """The verdicts on a guest that ended in one situation.

    :param failure: if the host reports a failure: the process was killed or crashed, a hang.
    :param no_reason: if the host reports that the guest does not run, without a reason.
    :param outcome: what follows, for operators.
    """

    failure: VerdictKind
    no_reason: VerdictKind
    outcome: str

    @property
    def requested(self) -> VerdictKind:
        """Return the verdict on a stop that libvirt was asked for."""
        return VerdictKind.GONE if self.failure == VerdictKind.GONE else VerdictKind.PLANNED


_RECOVERED = "Recovered."
_OPERATOR = (
    "Unhandled: nova cannot restart it in this state. Judged again until the state changes."
)

#: Situation -> its verdicts. The verdict on a stop that libvirt was asked for is PLANNED; on an
#: instance that runs again, or whose guest writes a crash dump, UNKNOWN.
SITUATIONS: Mapping[SituationName, Situation] = {
    SituationName.TASK: Situation(
        VerdictKind.UNKNOWN,
        VerdictKind.UNKNOWN,
        "Judged again until nova has finished; then as below.",
    ),
    SituationName.ACTIVE: Situation(VerdictKind.FAILED, VerdictKind.FAILED, _RECOVERED),
    SituationName.STOPPED_BY_USER: Situation(
        VerdictKind.PLANNED, VerdictKind.PLANNED, "Ignored: a user wants it stopped."
    ),
    SituationName.STOPPED_BY_NOVA: Situation(
        VerdictKind.FAILED,
        VerdictKind.UNKNOWN,
        "Recovered. Held if the host reports no reason: nova also stops a server whose guest shut "
        "down.",
    ),
    SituationName.STOPPED_WHILE_RUNNING: Situation(
        VerdictKind.FAILED, VerdictKind.UNKNOWN, "Recovered, for example after a confirmed resize."
    ),
    SituationName.STOPPED_AT_REST: Situation(
        VerdictKind.MANUAL,
        VerdictKind.UNKNOWN,
        "Unhandled: a recovery would start a guest that a user paused.",
    ),
    SituationName.STOPPED_UNEXPLAINED: Situation(
        VerdictKind.MANUAL, VerdictKind.UNKNOWN, "Unhandled: nova does not show who stopped it."
    ),
    SituationName.ERROR_RUNNING: Situation(VerdictKind.FAILED, VerdictKind.FAILED, _RECOVERED),
    SituationName.ERROR: Situation(
        VerdictKind.MANUAL,
        VerdictKind.MANUAL,
        "Unhandled: its disks may be incomplete, or an operator set the state.",
    ),
    SituationName.RESIZED: Situation(
        VerdictKind.MANUAL,
        VerdictKind.UNKNOWN,
        "Unhandled until the resize is confirmed or reverted, because nova cannot restart it "
        "before; then recovered.",
    ),
    SituationName.PAUSED: Situation(
        VerdictKind.MANUAL,
        VerdictKind.UNKNOWN,
        "Unhandled: a recovery would start a guest that a user paused.",
    ),
    SituationName.RESCUED: Situation(VerdictKind.MANUAL, VerdictKind.UNKNOWN, _OPERATOR),
    SituationName.AT_REST: Situation(
        VerdictKind.PLANNED, VerdictKind.PLANNED, "Ignored: a user's finished operation."
    ),
    SituationName.DELETED: Situation(
        VerdictKind.GONE, VerdictKind.GONE, "Ignored: the server does not exist."
    ),
    SituationName.OTHER: Situation(
        VerdictKind.UNKNOWN, VerdictKind.UNKNOWN, "Judged again until the state changes."
    ),
}

#: Situations of a server that does not run on the host that it has in nova, although it should.
NOWHERE = frozenset(
    {
        *(SituationName.ERROR, SituationName.ERROR_RUNNING),
        *(SituationName.STOPPED_BY_NOVA, SituationName.STOPPED_WHILE_RUNNING),
    }
)

#: vm_state -> situation, for the states that need no look at the actions.
_BY_STATE = {
    "active": SituationName.ACTIVE,
    "resized": SituationName.RESIZED,
    "paused": SituationName.PAUSED,
    "rescued": SituationName.RESCUED,
    "suspended": SituationName.AT_REST,
    "shelved": SituationName.AT_REST,
    "shelved_offloaded": SituationName.AT_REST,
    "soft-delete": SituationName.AT_REST,
    "deleted": SituationName.DELETED,
}

#: Actions that request a running server. Those that leave a stopped server stopped (a resize, a
#: rebuild) and those that do not concern its state are not here.
_STARTS = frozenset(
    {"create", "start", "reboot", "unpause", "resume", "unrescue", "unshelve", "restore"}
)
#: Actions that request a server that does not run.
_RESTS = frozenset(
    {"stop", "pause", "suspend", "rescue", "shelve", "shelveOffload", "delete", "softDelete"}
)
#: Actions whose failure leaves the disks of the server complete and on the same host.
_HARMLESS = frozenset({"start", "reboot", "unpause", "live-migration", "createImage"})


_STOP_BY_NOVA = "nova found the server dead and stopped it; no user requested that"
_OWN_STOP = "vmmonitor had nova stop the server, but has not started it again"


@dataclasses.dataclass(frozen=True, slots=True)
class ServerState:
    """The situation of a server, with the reason for an operator."""

    name: SituationName
    reason: str

    @property
    def situation(self) -> Situation:
        """Return the verdicts of the situation."""
        return SITUATIONS[self.name]


def read_state(
    server: Mapping[str, Any],
    list_actions: Callable[[], Sequence[Action]],
    own_user_id: Callable[[], str],
) -> ServerState:
    """Return the situation of a server that has a ``vm_state``.

    :param list_actions: returns the server's actions, newest first; called only if they matter.
    :param own_user_id: returns the id of the user of ``[nova]``; called only if it matters.
    """
    if task := server.get(TASK_STATE):
        reason = f"nova is working on the server ({task}), and the result is not known yet"
        return ServerState(SituationName.TASK, reason)
    state = str(server[VM_STATE])
    if state == "stopped":
        return _read_stopped(list_actions(), own_user_id)
    if state == "error":
        return _read_error(list_actions(), own_user_id)
    reason = STATE_REASONS.get(state, f"the state of the server in nova is {state}")
    return ServerState(_BY_STATE.get(state, SituationName.OTHER), reason)


def _read_stopped(actions: Sequence[Action], own_user_id: Callable[[], str]) -> ServerState:
    """Return who stopped the server, and whether it was to run before.

    nova stops a server by itself when it finds it dead, and vmmonitor has it stopped to start it
    again. The request before such a stop shows whether the server is to run.
    """
    relevant = [each for each in actions if str(each.get("action")) in _STARTS | _RESTS]
    reaction = next((each for each in relevant[:1] if _is_reaction(each, own_user_id)), None)
    last = _last_request(relevant, own_user_id)
    reason = "the server is stopped in nova"
    if last == "stop":
        return ServerState(SituationName.STOPPED_BY_USER, reason)
    if reaction:
        reason = _OWN_STOP if reaction.get("user_id") else _STOP_BY_NOVA
    if last in _RESTS:
        reason = f"{reason}; the last request of a user was {last}"
        return ServerState(SituationName.STOPPED_AT_REST, reason)
    if reaction:
        return ServerState(SituationName.STOPPED_BY_NOVA, reason)
    if last:
        reason = f"{reason}, but the last request of a user was {last}"
        return ServerState(SituationName.STOPPED_WHILE_RUNNING, reason)
    reason = f"{reason}, and no action shows who stopped it"
    return ServerState(SituationName.STOPPED_UNEXPLAINED, reason)


def _read_error(actions: Sequence[Action], own_user_id: Callable[[], str]) -> ServerState:
    """Return whether the server was to run, and the newest action left its disks complete."""
    newest: Action = next(iter(actions), {})
    name = str(newest.get("action"))
    is_own = bool(newest) and (not newest.get("user_id") or newest["user_id"] == own_user_id())
    last = _last_request(actions, own_user_id)
    was_to_run = last in _STARTS or (is_own and not last)
    if was_to_run and (is_own or name in _HARMLESS):
        reason = f"the server is in the error state in nova after {name}, and was to run before"
        return ServerState(SituationName.ERROR_RUNNING, reason)
    return ServerState(SituationName.ERROR, STATE_REASONS["error"])


def _last_request(actions: Sequence[Action], own_user_id: Callable[[], str]) -> str:
    """Return the newest action that asks for the server to run or not to run, or ''."""
    names = (str(each.get("action")) for each in actions if not _is_reaction(each, own_user_id))
    return next((name for name in names if name in _STARTS | _RESTS), "")


def _is_reaction(action: Action, own_user_id: Callable[[], str]) -> bool:
    """Return whether an action is a stop by nova, or one that vmmonitor requested."""
    user = action.get("user_id")
    return action.get("action") == "stop" and (not user or user == own_user_id())
