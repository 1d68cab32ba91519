# SPDX-License-Identifier: Apache-2.0
"""Lists in pages. A page starts after a row, not after a number of rows, so that what comes and
goes meanwhile neither repeats nor hides anything, and the last page costs as much as the first."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import sqlalchemy as sa

from vmmonitor.db.session import Transaction
from vmmonitor.model import errors

Direction = Literal["asc", "desc"]
Value = str | Sequence[str]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """What part of a list is asked for.

    :param limit: greatest number of things, at least 1.
    :param marker: id of the last thing of the page before; None for the first page.
    :param sort: (key, ``asc`` or ``desc``), the most important first; empty for the list's own.
    :param filters: name -> the value, or a list of values of which one must fit.
    :param since: the earliest time; microseconds since the epoch.
    :param until: the first time that is too late.
    """

    limit: int
    marker: str | None = None
    sort: Sequence[tuple[str, Direction]] = ()
    filters: Mapping[str, Value] = dataclasses.field(default_factory=dict)
    since: int | None = None
    until: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """What a table's list offers.

    :param key: column of the public id.
    :param time: column that ``since`` and ``until`` mean.
    :param filters: columns that can be filtered by.
    :param sort: columns that can be sorted by, none of which may be NULL.
    :param default: the order if none is asked for.
    """

    table: sa.Table
    key: str
    time: str
    filters: frozenset[str]
    sort: frozenset[str]
    default: Sequence[tuple[str, Direction]]

    def rows(
        self, tx: Transaction, page: Page, *conditions: sa.ColumnElement[bool]
    ) -> Sequence[sa.Row[Any]]:
        """Return a page's rows.

        :param conditions: what else must be so.
        :raises ValueError: an unknown filter, sort key or direction, or a limit below 1.
        :raises vmmonitor.model.errors.NotFound: nothing has the marker's id.
        """
        order = self._order(page)
        query = sa.select(self.table).where(*self._conditions(page), *conditions).limit(page.limit)
        if page.marker is not None:
            query = query.where(self._after(tx, order, page.marker))
        by = [column.desc() if down else column.asc() for column, down in order]
        return tx.execute(query.order_by(*by)).all()

    def _order(self, page: Page) -> list[tuple[sa.Column[Any], bool]]:
        """Return (column, whether downwards); the row's id comes last and decides ties."""
        if page.limit < 1:
            raise ValueError(f"limit is {page.limit}, it must be at least 1")
        order = []
        for name, direction in page.sort or self.default:
            if name not in self.sort:
                raise ValueError(f"cannot sort by {name!r}, only by: {_names(self.sort)}")
            if direction not in ("asc", "desc"):
                raise ValueError(f"sort direction {direction!r} is neither 'asc' nor 'desc'")
            order.append((self.table.c[name], direction == "desc"))
        return [*order, (self.table.c.id, order[-1][1])]

    def _conditions(self, page: Page) -> list[sa.ColumnElement[bool]]:
        conditions = []
        for name, value in page.filters.items():
            if name not in self.filters:
                raise ValueError(f"cannot filter by {name!r}, only by: {_names(self.filters)}")
            column = self.table.c[name]
            conditions.append(column == value if isinstance(value, str) else column.in_(value))
        time = self.table.c[self.time]
        if page.since is not None:
            conditions.append(time >= page.since)
        if page.until is not None:
            conditions.append(time < page.until)
        return conditions

    def _after(
        self, tx: Transaction, order: list[tuple[sa.Column[Any], bool]], marker: str
    ) -> sa.ColumnElement[bool]:
        """Return the condition of the rows that come after the marker's row.

        For (a, b): a beyond, or a equal and b beyond. "a not before" is implied, but an index
        can follow it, where databases see no range in an OR.
        """
        row = tx.execute(
            sa.select(*(column for column, _ in order)).where(self.table.c[self.key] == marker)
        ).first()
        if row is None:
            raise errors.NotFound(**{self.key: marker})
        condition: sa.ColumnElement[bool] = sa.false()
        for (column, down), value in reversed(list(zip(order, row, strict=True))):
            beyond = column < value if down else column > value
            if column is self.table.c.id:
                condition = beyond
                continue
            not_before = column <= value if down else column >= value
            condition = sa.and_(not_before, sa.or_(beyond, sa.and_(column == value, condition)))
        return condition


def _names(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))
