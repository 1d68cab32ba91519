# SPDX-License-Identifier: Apache-2.0
"""One attempt to bring an instance back, what it was asked to do, and what came of it."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from vmmonitor.model import states
from vmmonitor.model.event import Event
from vmmonitor.model.incident import Incident
from vmmonitor.model.states import RecoveryState


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Recovery:
    """One attempt; at most one is active per incident.

    All times are microseconds since the epoch, engines' clock.

    :param driver: entry point name of the recovery driver.
    :param step: index of the policy's step that it belongs to, from 0.
    :param attempt: number of this attempt within its step, from 1.
    :param not_before: it must not start earlier (backoff).
    :param lease_owner: the engine that runs it; empty if none does.
    :param lease_until: another engine may take it over afterwards; 0 without a lease.
    :param wait_until: it has failed if the instance does not run by then; 0 if not waiting.
    :param look_at: while waiting, when the expectation is to be asked next whether it runs; None
        if only its host's word counts.
    :param called_at: when the driver was (last) called; None if it was not.
    :param message: what came of it, for a person to read.
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
    lease_owner: str = ""
    lease_until: int = 0
    wait_until: int = 0
    called_at: int | None = None
    finished_at: int | None = None
    message: str = ""
    look_at: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RecoveryRequest:
    """What a driver is asked to do.

    :param incident: as it is now; ``incident.host`` is where to act.
    :param events: its events, oldest first; at most the newest 100.
    :param taken_over: another engine died while it ran this very recovery: find out first
        what was already done.
    :param timeout: seconds that the driver may take.
    :param options: those of the policy's step, which ``Driver.check_options`` has seen.
    """

    recovery: Recovery
    incident: Incident
    events: Sequence[Event]
    taken_over: bool
    timeout: float
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a driver returns. It never raises for an ordinary result.

    :param move: the move of ``states.RECOVERY`` that it makes: ``succeed`` (nothing is left to
        wait for), ``wait`` (done, now the instance must be seen running), ``fail`` or ``skip``
        (there was nothing to do).
    :param message: one sentence for a person.
    :param retry: whether trying the same again makes sense; only read after ``fail``.
    """

    move: str
    message: str
    retry: bool = False

    def __post_init__(self) -> None:
        if self.move not in ("succeed", "wait", "fail", "skip"):
            raise ValueError(f"a driver cannot {self.move!r} a recovery")
        states.next_state(states.RECOVERY_TRANSITIONS, RecoveryState.RUNNING, self.move)
