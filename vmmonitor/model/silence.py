# SPDX-License-Identifier: Apache-2.0
"""An operator's word that certain failures are to be left alone for a time."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

#: Begins later.
PENDING = "pending"
#: Holds.
ACTIVE = "active"
#: Its time is over, or somebody ended it.
EXPIRED = "expired"
STATES = (PENDING, ACTIVE, EXPIRED)

#: As a rule file says it: field -> test, or a list of such mappings, one of which must hold.
Written = Mapping[str, Any] | Sequence[Mapping[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Silence:
    """What is muted, by whom, why, and for how long.

    All times are microseconds since the epoch, engines' clock.

    :param match: the incidents that it means.
    :param author: who wants it.
    :param comment: why, for a person to read.
    :param starts_at: it holds from then on.
    :param ends_at: it holds before, if nobody ends it earlier.
    :param expired_at: when somebody ended it; None if nobody did.
    :param expired_by: who did.
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

    def state(self, now: int) -> str:
        """Return PENDING, ACTIVE or EXPIRED.

        :param now: microseconds since the epoch, engines' clock.
        """
        if self.expired_at is not None or self.ends_at <= now:
            return EXPIRED
        return PENDING if self.starts_at > now else ACTIVE
