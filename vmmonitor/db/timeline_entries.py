# SPDX-License-Identifier: Apache-2.0
"""Store and read the timelines of incidents. They are deleted with their incidents."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from vmmonitor.db import rows
from vmmonitor.db.session import Transaction
from vmmonitor.db.tables import TIMELINE_ENTRIES
from vmmonitor.model.timeline import TimelineEntry, TimelineKind


def insert(tx: Transaction, entries: Sequence[TimelineEntry]) -> None:
    """Add entries to the timelines of their incidents."""
    if entries:
        tx.execute(sa.insert(TIMELINE_ENTRIES), [rows.shallow(entry) for entry in entries])


def of_incident(tx: Transaction, incident_id: str) -> list[TimelineEntry]:
    """Return an incident's timeline, ordered by time."""
    query = (
        sa.select(TIMELINE_ENTRIES)
        .where(TIMELINE_ENTRIES.c.incident_id == incident_id)
        .order_by(TIMELINE_ENTRIES.c.at, TIMELINE_ENTRIES.c.id)
    )
    return [from_row(row) for row in tx.execute(query)]


def last_verdict(tx: Transaction, incident_id: str) -> str:
    """Return the newest verdict in an incident's timeline; empty without one."""
    this = TIMELINE_ENTRIES.c
    query = (
        sa.select(TIMELINE_ENTRIES)
        .where(this.incident_id == incident_id, this.kind == TimelineKind.QUESTION)
        .order_by(this.at.desc(), this.id.desc())
        .limit(1)
    )
    row = tx.execute(query).first()
    return "" if row is None else str(from_row(row).data.get("verdict", ""))


def from_row(row: sa.Row[Any]) -> TimelineEntry:
    """Return the timeline entry of a row."""
    fields = rows.fields(TimelineEntry, row._mapping)
    return TimelineEntry(**fields | {"kind": TimelineKind(row.kind)})
