# SPDX-License-Identifier: Apache-2.0
"""Between the model's dataclasses and rows, for what several tables have in common."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import sqlalchemy as sa

from vmmonitor.model.instance import Instance

Item = TypeVar("Item")

#: Field of Instance -> its column.
INSTANCE = {
    field.name: {"uuid": "instance_uuid", "name": "instance_name"}.get(field.name, field.name)
    for field in dataclasses.fields(Instance)
}


def of_instance(instance: Instance) -> dict[str, str]:
    """Return the columns of who an instance is."""
    return {column: getattr(instance, field) for field, column in INSTANCE.items()}


def instance(row: sa.RowMapping) -> Instance:
    """Return who the instance of a row is."""
    return Instance(**{field: row[column] for field, column in INSTANCE.items()})


def fields(noun: type, row: sa.RowMapping) -> dict[str, Any]:
    """Return those fields of a dataclass that the row has a column for."""
    return {field.name: row[field.name] for field in dataclasses.fields(noun) if field.name in row}


def chunks(items: Iterable[Item], size: int = 1000) -> Iterator[list[Item]]:
    """Cut into lists that fit into one statement; databases limit its parameters."""
    rest = iter(items)
    while chunk := list(itertools.islice(rest, size)):
        yield chunk


def shallow(noun: Any) -> dict[str, Any]:
    """Return a dataclass's fields, its values as they are."""
    return {field.name: getattr(noun, field.name) for field in dataclasses.fields(noun)}
