# SPDX-License-Identifier: Apache-2.0
"""Define silences: an operator mutes incidents for a period."""

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import Any


class SilenceState(enum.StrEnum):
    """The state of a silence at one time."""

    PENDING = "pending"
    ACTIVE = "active"
    #: Its end has passed, or an operator ended it.
    EXPIRED = "expired"


#: As in a rule file: field -> test, or a list of such mappings, one of which must match.
Written = Mapping[str, Any] | Sequence[Mapping[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Silence:
    """The muted incidents, the operator, the reason and the period.

    All times are microseconds since the epoch, engines' clock.

    :param match: selects the incidents.
    :param author: the operator who created it.
    :param comment: the reason, for other operators.
    :param ends_at: its planned end.
    :param expired_at: when an operator ended it early; None otherwise.
    :param expired_by: the operator who ended it early.
    """

    silence_id: str
    match: Written
    author: str
    comment: str
    starts_at: int
    ends_at: int
    created_at: int
    expired_at: int | None = None
    expired_by: str = ""

    def state(self, now: int) -> SilenceState:
        """Return the state at a time.

        :param now: microseconds since the epoch, engines' clock.
        """
        if self.expired_at is not None or self.ends_at <= now:
            return SilenceState.EXPIRED
        return SilenceState.PENDING if self.starts_at > now else SilenceState.ACTIVE
