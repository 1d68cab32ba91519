# SPDX-License-Identifier: Apache-2.0
"""Define the requests of operators about an incident or a recovery, and their results."""

import dataclasses
from collections.abc import Mapping
from typing import Any

#: Recover the instance of an incident now, regardless of limits and silences.
RECOVER = "recover"
#: Resolve an incident.
RESOLVE = "resolve"
#: Hold the recovery of an incident, for a time or until it is released.
HOLD = "hold"
#: Release an incident from its hold or silence.
RELEASE = "release"
#: Cancel a recovery, and hold its incident.
CANCEL = "cancel"
#: Retry a failed recovery by the same policy, or start a delayed recovery now.
RETRY = "retry"

OF_INCIDENT = (RECOVER, RESOLVE, HOLD, RELEASE)
OF_RECOVERY = (CANCEL, RETRY)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class OperatorRequest:
    """A request of an operator, which exactly one engine carries out.

    Times are microseconds since the epoch, by the engines' clock.

    :param verb: one of the verbs above.
    :param recovery_id: empty if the request is about an incident.
    :param author: name of the operator.
    :param comment: reason of the operator; may be empty.
    :param options: ``policy`` (RECOVER: name of the policy to use), ``seconds`` (HOLD: duration).
    :param state: a ``RequestState``.
    :param message: the result, or the reason why the request waits.
    """

    request_id: str
    verb: str
    incident_id: str
    author: str
    created_at: int
    state: str
    recovery_id: str = ""
    comment: str = ""
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    message: str = ""
    finished_at: int | None = None

    @property
    def words(self) -> str:
        """The author and the comment, for the end of a sentence."""
        return f"{self.author}: {self.comment}" if self.comment else self.author
