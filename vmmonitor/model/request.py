# SPDX-License-Identifier: Apache-2.0
"""What an operator wants done about an incident or a recovery, and what came of it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

#: Of an incident: act on it now, whatever limit or silence stands against it.
RECOVER = "recover"
#: Of an incident: it is over.
RESOLVE = "resolve"
#: Of an incident: nothing acts on it, for a time or until it is released.
HOLD = "hold"
#: Of an incident: what holds or silences it does so no longer.
RELEASE = "release"
#: Of a recovery: it ends, and its incident is held.
CANCEL = "cancel"
#: Of a recovery that is over: try again by the same policy; of one that waits its time: now.
RETRY = "retry"

OF_INCIDENT = (RECOVER, RESOLVE, HOLD, RELEASE)
OF_RECOVERY = (CANCEL, RETRY)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class OperatorRequest:
    """One wish; any engine carries it out, and exactly one does.

    All times are microseconds since the epoch, engines' clock.

    :param verb: one of the words above.
    :param recovery_id: empty if it is about the incident itself.
    :param author: who wants it.
    :param comment: why, in the author's words; may be empty.
    :param options: ``policy`` (RECOVER: the name of the policy to go by), ``seconds`` (HOLD: how
        long).
    :param state: one of the keys of ``states.REQUEST``.
    :param message: what came of it, or what it waits for; for a person to read.
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
        """Who wants it and why, to end a sentence with."""
        return f"{self.author}: {self.comment}" if self.comment else self.author
