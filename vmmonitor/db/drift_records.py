# SPDX-License-Identifier: Apache-2.0
"""Instances that are not as they should be: since when, and whether that was told."""

import dataclasses
from typing import Any

import sqlalchemy as sa

from vmmonitor.db import rows
from vmmonitor.db.session import Transaction, unique
from vmmonitor.db.tables import DRIFT_RECORDS
from vmmonitor.model.drift import DriftRecord


def all(tx: Transaction) -> list[DriftRecord]:
    """Return what is remembered of every instance of which something is."""
    return [
        _noted(row) for row in tx.execute(sa.select(DRIFT_RECORDS).order_by(DRIFT_RECORDS.c.id))
    ]


def get(tx: Transaction, instance_uuid: str) -> DriftRecord | None:
    """Return what is remembered of an instance."""
    query = sa.select(DRIFT_RECORDS).where(DRIFT_RECORDS.c.instance_uuid == instance_uuid)
    row = tx.execute(query).first()
    return _noted(row) if row else None


def insert(tx: Transaction, noted: DriftRecord) -> None:
    """Remember a mismatch of an instance of which none is remembered.

    :raises vmmonitor.model.errors.Conflict: another engine was faster.
    """
    with unique("Another engine remembers it"):
        tx.execute(sa.insert(DRIFT_RECORDS), _columns(noted))


def change(tx: Transaction, noted: DriftRecord, **changes: Any) -> bool:
    """Change what is remembered, if it is still as ``noted``.

    :param changes: fields of DriftRecord.
    :return: whether it was.
    """
    columns = _columns(dataclasses.replace(noted, **changes))
    return bool(tx.execute(sa.update(DRIFT_RECORDS).where(*_same(noted)).values(columns)).rowcount)


def delete(tx: Transaction, noted: DriftRecord) -> bool:
    """Forget it, if it is still as ``noted``; returns whether it was."""
    return bool(tx.execute(sa.delete(DRIFT_RECORDS).where(*_same(noted))).rowcount)


def _same(noted: DriftRecord) -> list[sa.ColumnElement[bool]]:
    # Not last_seen_at: engines that see the same thing at once do not contradict each other.
    return [
        DRIFT_RECORDS.c.instance_uuid == noted.instance.uuid,
        DRIFT_RECORDS.c.key == noted.key,
        DRIFT_RECORDS.c.first_seen_at == noted.first_seen_at,
        DRIFT_RECORDS.c.reported_key == noted.reported_key,
    ]


def _columns(noted: DriftRecord) -> dict[str, Any]:
    columns = rows.shallow(noted)
    return {**rows.of_instance(columns.pop("instance")), **columns}


def _noted(row: sa.Row[Any]) -> DriftRecord:
    columns = row._mapping
    facts = rows.fields(DriftRecord, columns) | {"hosts": tuple(columns["hosts"])}
    return DriftRecord(instance=rows.instance(columns), **facts)
