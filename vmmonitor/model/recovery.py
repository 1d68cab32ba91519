# SPDX-License-Identifier: Apache-2.0
"""Define recovery attempts, the request to a driver, and its outcome."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from vmmonitor.model import states
from vmmonitor.model.event import Event
from vmmonitor.model.incident import Incident
from vmmonitor.model.states import RecoveryState


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Recovery:
    """One recovery attempt; at most one is active per incident.

    Times are microseconds since the epoch, engines' clock.

    :param driver: entry point name of the recovery driver.
    :param step: index of the policy's step that it belongs to, from 0.
    :param attempt: number of this attempt within its step, from 1.
    :param not_before: earliest start (backoff).
    :param token: fence token of the newest claim. It rises with each claim of a recovery of this
        instance, over all incidents; 0 before the first claim.
    :param takeovers: how often another engine has continued it after its lease expired.
    :param failure_number: number of the failure within the incident, from 1. An attempt after one
        without an answer has the same number, because both are about one failure.
    :param lease_owner: the engine process that runs it; empty without one. Its claims differ in
        ``token``.
    :param lease_until: another engine may take it over afterwards; 0 without a lease.
    :param wait_until: the attempt fails if the instance does not run by then; 0 if not waiting.
    :param look_at: while waiting, time of the next active poll of the expectation; None if only
        events of its host count.
    :param called_at: when the driver was last called; None if it was not called.
    :param returned_at: when the driver returned; None if it has not.
    :param message: its result; one sentence for the operator.
    """

    recovery_id: str
    incident_id: str
    instance_uuid: str
    host: str
    policy: str
    driver: str
    step: int
    attempt: int
    state: RecoveryState
    not_before: int
    created_at: int
    token: int = 0
    takeovers: int = 0
    failure_number: int = 1
    lease_owner: str = ""
    lease_until: int = 0
    wait_until: int = 0
    called_at: int | None = None
    returned_at: int | None = None
    finished_at: int | None = None
    message: str = ""
    look_at: int | None = None


class Lease(Protocol):
    """The engine's right to act on a recovery, which another engine gets when it expires."""

    def is_held(self) -> bool:
        """Return whether the driver may act now; ask before each order, and stop without it."""

    def expires_at(self) -> int:
        """Return when the lease ends if it is not renewed.

        :returns: microseconds since the epoch, engines' clock.
        """


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RecoveryRequest:
    """The request to a driver.

    :param incident: the driver acts on the host ``incident.host``.
    :param events: its events, oldest first; at most the newest 100.
    :param taken_over: another engine stopped during this recovery; the driver must first determine
        the actions that were already carried out.
    :param lease: the driver asks it before each order. Without the lease, another engine may be
        acting on the instance.
    :param timeout: maximum duration of the call, in seconds.
    :param options: the options of the policy step, checked by ``Driver.check_options``.
    """

    recovery: Recovery
    incident: Incident
    events: Sequence[Event]
    taken_over: bool
    lease: Lease
    timeout: float
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The result of a driver, which does not raise for an ordinary result.

    :param move: the resulting ``RecoveryTransition``: SUCCEED (no need to wait), WAIT (done; the
        instance must be seen running), FAIL or SKIP (nothing to recover).
    :param message: one sentence for the operator.
    :param retry: whether to retry the same step; only used after FAIL.
    :param answered: False if the called system did not answer, so that it may have acted.
    """

    move: str
    message: str
    retry: bool = False
    answered: bool = True

    def __post_init__(self) -> None:
        if self.move not in ("succeed", "wait", "fail", "skip"):
            raise ValueError(f"a driver cannot {self.move!r} a recovery")
        states.next_state(states.RECOVERY_TRANSITIONS, RecoveryState.RUNNING, self.move)
