# SPDX-License-Identifier: Apache-2.0
"""Convert between the model's dataclasses and rows."""

import dataclasses
import itertools
import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa

from vmmonitor.db.session import Transaction
from vmmonitor.model.instance import Instance

Item = TypeVar("Item")

#: Field of Instance -> its column.
INSTANCE_COLUMNS = {
    field.name: {"uuid": "instance_uuid", "name": "instance_name"}.get(field.name, field.name)
    for field in dataclasses.fields(Instance)
}

#: Returns the values of these columns of an instance, in their order.
instance_values = operator.attrgetter(*INSTANCE_COLUMNS)


def of_instance(instance: Instance) -> dict[str, str]:
    """Return the columns of an instance."""
    return dict(zip(INSTANCE_COLUMNS.values(), instance_values(instance), strict=True))


def instance(row: sa.RowMapping) -> Instance:
    """Return the instance of a row."""
    return Instance(**{field: row[column] for field, column in INSTANCE_COLUMNS.items()})


def fields(noun: type, row: sa.RowMapping) -> dict[str, Any]:
    """Return the fields of a dataclass that are columns of the row."""
    return {field.name: row[field.name] for field in dataclasses.fields(noun) if field.name in row}


def insert(
    tx: Transaction, table: sa.Table, names: Sequence[str], values: Sequence[Sequence[Any]]
) -> None:
    """Insert many rows with the ``executemany`` of the driver, which is faster than SQLAlchemy.

    :param names: names of the columns.
    :param values: values of each row, in the order of ``names``.
    """
    if tx.dialect.name == "postgresql":
        # psycopg2's executemany sends each row alone; SQLAlchemy combines rows in few statements.
        tx.execute(sa.insert(table), [dict(zip(names, row, strict=True)) for row in values])
        return
    columns = [table.c[name] for name in names]
    kinds = [column.type.dialect_impl(tx.dialect) for column in columns]
    binders = [kind.bind_processor(tx.dialect) for kind in kinds]
    # By column, so that columns without a conversion cost no Python code per value.
    bound = [
        map(binder, column) if binder else column
        for binder, column in zip(binders, zip(*values, strict=True), strict=True)
    ]
    quoted = ", ".join(map(tx.dialect.identifier_preparer.format_column, columns))
    marks = ", ".join(["?" if tx.dialect.paramstyle == "qmark" else "%s"] * len(columns))
    statement = f"INSERT INTO {table.name} ({quoted}) VALUES ({marks})"
    tx.exec_driver_sql(statement, list(zip(*bound, strict=True)))


def chunks(items: Iterable[Item], size: int = 1000) -> Iterator[list[Item]]:
    """Split items into lists that fit into one statement: databases limit its parameters."""
    rest = iter(items)
    while chunk := list(itertools.islice(rest, size)):
        yield chunk


def shallow(noun: Any) -> dict[str, Any]:
    """Return the fields of a dataclass, without converting their values."""
    return {field.name: getattr(noun, field.name) for field in dataclasses.fields(noun)}
