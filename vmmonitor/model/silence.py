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


#: The form in a rule file: field -> test, or a list of such mappings. At least one mapping of a
#: list must match.
Written = Mapping[str, Any] | Sequence[Mapping[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Silence:
    """The incidents that an operator mutes for a period.

    Times are microseconds since the epoch, engines' clock.

    :param match: selects the incidents.
    :param author: the operator who created it.
    :param comment: the reason, for other operators.
    :param ends_at: the planned end of the silence.
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
