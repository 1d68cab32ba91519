# SPDX-License-Identifier: Apache-2.0
"""Read, list and purge the rows of one table.

Each module of a table creates a Repository and publishes its methods::

    REPOSITORY = Repository(table=SILENCES, key="silence_id", from_row=_silence, ...)
    get, page = REPOSITORY.get, REPOSITORY.page
"""

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

from vmmonitor.db import rows
from vmmonitor.db.page import Direction, Page
from vmmonitor.db.session import Transaction
from vmmonitor.model import errors

Noun = TypeVar("Noun")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Repository(Generic[Noun]):
    """One table, with the filters and sort keys of its list.

    :param key: column of the public id.
    :param from_row: returns the dataclass of a row.
    :param time: column that ``Page.since`` and ``Page.until`` select by.
    :param filters: columns that can be filtered by.
    :param sort: columns that can be sorted by; they must not be NULL.
    :param default: the default order.
    """

    table: sa.Table
    key: str
    from_row: Callable[[sa.Row[Any]], Noun]
    time: str
    filters: frozenset[str]
    sort: frozenset[str]
    default: Sequence[tuple[str, Direction]]

    def find(self, tx: Transaction, key: str, *, lock: bool = False) -> Noun | None:
        """Return the item with this id; None if it does not exist.

        :param lock: whether to lock its row until the end of the transaction.
        """
        query = sa.select(self.table).where(self.table.c[self.key] == key)
        row = tx.execute(query.with_for_update() if lock else query).first()
        return None if row is None else self.from_row(row)

    def get(self, tx: Transaction, key: str) -> Noun:
        """Return the item with this id.

        :raises vmmonitor.model.errors.NotFound: it does not exist.
        """
        return self._require(key, self.find(tx, key))

    def lock(self, tx: Transaction, key: str) -> Noun:
        """Return the item with this id, and lock its row until the end of the transaction.

        :raises vmmonitor.model.errors.NotFound: it does not exist.
        """
        return self._require(key, self.find(tx, key, lock=True))

    def page(self, tx: Transaction, page: Page, *conditions: sa.ColumnElement[bool]) -> list[Noun]:
        """Return a page of the items.

        :param conditions: further conditions.
        :raises ValueError: an unknown filter, sort key or direction, or a limit below 1.
        :raises vmmonitor.model.errors.NotFound: no item has the id of the marker.
        """
        order = self._order(page)
        query = sa.select(self.table).where(*self._conditions(page), *conditions).limit(page.limit)
        if page.marker is not None:
            query = query.where(self._after(tx, order, page.marker))
        by = [column.desc() if down else column.asc() for column, down in order]
        return [self.from_row(row) for row in tx.execute(query.order_by(*by))]

    def purge(self, tx: Transaction, before: int, limit: int, column: str) -> int:
        """Delete the rows whose time is earlier than ``before``, the oldest first.

        :param before: microseconds since the epoch.
        :param limit: maximum number of rows to delete in this transaction.
        :param column: the column of the time; rows where it is NULL stay.
        :return: the number of deleted rows; fewer than ``limit`` if no more are left.
        """
        time = self.table.c[column]
        query = sa.select(self.table.c.id).where(time < before).order_by(time).limit(limit)
        return self.delete(tx, tx.execute(query).scalars().all())

    def delete(self, tx: Transaction, ids: Collection[int]) -> int:
        """Delete rows by their numbers, and return the number of deleted rows."""
        number = self.table.c.id
        return sum(
            tx.execute(sa.delete(self.table).where(number.in_(chunk))).rowcount
            for chunk in rows.chunks(ids)
        )

    def _require(self, key: str, found: Noun | None) -> Noun:
        if found is None:
            raise errors.NotFound(**{self.key: key})
        return found

    def _order(self, page: Page) -> list[tuple[sa.Column[Any], bool]]:
        """Return (column, whether descending); the row number is last and breaks ties."""
        if page.limit < 1:
            raise ValueError(f"limit is {page.limit}, it must be at least 1")
        order = []
        for name, direction in page.sort or self.default:
            if name not in self.sort:
                raise ValueError(f"cannot sort by {name!r}, only by: {_join(self.sort)}")
            if direction not in ("asc", "desc"):
                raise ValueError(f"sort direction {direction!r} is neither 'asc' nor 'desc'")
            order.append((self.table.c[name], direction == "desc"))
        return [*order, (self.table.c.id, order[-1][1])]

    def _conditions(self, page: Page) -> list[sa.ColumnElement[bool]]:
        conditions = []
        for name, value in page.filters.items():
            if name not in self.filters:
                raise ValueError(f"cannot filter by {name!r}, only by: {_join(self.filters)}")
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
        """Return the condition of the rows that follow the marker's row.

        For the order (a, b), a is beyond, or a is equal and b is beyond. The condition "a is not
        before" is redundant, but can use an index; databases do not derive a range from an OR.
        """
        columns = (column for column, _ in order)
        row = tx.execute(sa.select(*columns).where(self.table.c[self.key] == marker)).first()
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


def _join(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))
