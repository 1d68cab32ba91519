# SPDX-License-Identifier: Apache-2.0
"""Store the drift of instances: when it was first observed, and the event that reported it."""

import dataclasses
from typing import Any

import sqlalchemy as sa

from vmmonitor.db import rows
from vmmonitor.db.session import Transaction, unique
from vmmonitor.db.tables import DRIFT_RECORDS
from vmmonitor.model.drift import DriftRecord


def all(tx: Transaction) -> list[DriftRecord]:
    """Return the drift records of all instances."""
    return [
        _from_row(row) for row in tx.execute(sa.select(DRIFT_RECORDS).order_by(DRIFT_RECORDS.c.id))
    ]


def get(tx: Transaction, instance_uuid: str) -> DriftRecord | None:
    """Return the drift record of an instance; None without one."""
    query = sa.select(DRIFT_RECORDS).where(DRIFT_RECORDS.c.instance_uuid == instance_uuid)
    row = tx.execute(query).first()
    return _from_row(row) if row else None


def insert(tx: Transaction, record: DriftRecord) -> None:
    """Store the drift record of an instance without one.

    :raises vmmonitor.model.errors.Conflict: another engine has stored one.
    """
    with unique("Another engine has stored the drift"):
        tx.execute(sa.insert(DRIFT_RECORDS), _columns(record))


def change(tx: Transaction, record: DriftRecord, **changes: Any) -> bool:
    """Change a drift record, if it was not changed meanwhile.

    :param changes: fields of DriftRecord.
    :return: whether it was changed.
    """
    columns = _columns(dataclasses.replace(record, **changes))
    return bool(
        tx.execute(sa.update(DRIFT_RECORDS).where(*_same(record)).values(columns)).rowcount
    )


def delete(tx: Transaction, record: DriftRecord) -> bool:
    """Delete a drift record, if it was not changed meanwhile; return whether it was deleted."""
    return bool(tx.execute(sa.delete(DRIFT_RECORDS).where(*_same(record))).rowcount)


def _same(record: DriftRecord) -> list[sa.ColumnElement[bool]]:
    # Without last_seen_at: engines that observe the same drift at once do not conflict.
    return [
        DRIFT_RECORDS.c.instance_uuid == record.instance.uuid,
        DRIFT_RECORDS.c.key == record.key,
        DRIFT_RECORDS.c.first_seen_at == record.first_seen_at,
        DRIFT_RECORDS.c.reported_key == record.reported_key,
    ]


def _columns(record: DriftRecord) -> dict[str, Any]:
    columns = rows.shallow(record)
    return {**rows.of_instance(columns.pop("instance")), **columns}


def _from_row(row: sa.Row[Any]) -> DriftRecord:
    columns = row._mapping
    facts = rows.fields(DriftRecord, columns) | {"hosts": tuple(columns["hosts"])}
    return DriftRecord(instance=rows.instance(columns), **facts)
