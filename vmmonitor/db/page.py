# SPDX-License-Identifier: Apache-2.0
"""Describe one page of a list.

A page starts after a row, not after a number of rows. Therefore insertions and deletions neither
repeat nor hide rows on further pages, and the last page costs as much as the first.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

Direction = Literal["asc", "desc"]
Value = str | Sequence[str]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """The requested part of a list.

    :param limit: maximum number of items, at least 1.
    :param marker: id of the last item of the previous page; None for the first page.
    :param sort: (key, ``asc`` or ``desc``), the most important key first; empty for the default
        order of the list.
    :param filters: name -> a value, or a list of values; at least one must match.
    :param since: the earliest time; microseconds since the epoch.
    :param until: the first time that is excluded; microseconds since the epoch.
    """

    limit: int
    marker: str | None = None
    sort: Sequence[tuple[str, Direction]] = ()
    filters: Mapping[str, Value] = dataclasses.field(default_factory=dict)
    since: int | None = None
    until: int | None = None
