# SPDX-License-Identifier: Apache-2.0
"""The time lines of incidents. They go when their incidents do."""

from collections.abc import Sequence

import sqlalchemy as sa

from vmmonitor.db import rows
from vmmonitor.db.session import Transaction
from vmmonitor.db.tables import INCIDENT_STEPS
from vmmonitor.model.incident import Step


def add(tx: Transaction, steps: Sequence[Step]) -> None:
    """Add lines to the time lines of incidents."""
    if steps:
        lines = [rows.shallow(step) for step in steps]
        tx.execute(sa.insert(INCIDENT_STEPS), lines)


def of(tx: Transaction, incident_id: str) -> list[Step]:
    """Return an incident's time line, in the order in which it was written."""
    query = (
        sa.select(INCIDENT_STEPS)
        .where(INCIDENT_STEPS.c.incident_id == incident_id)
        .order_by(INCIDENT_STEPS.c.at, INCIDENT_STEPS.c.id)
    )
    return [Step(**rows.fields(Step, row._mapping)) for row in tx.execute(query)]
