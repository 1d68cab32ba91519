# SPDX-License-Identifier: Apache-2.0
"""Find the unhandled incidents whose verdict is requested again."""

import sqlalchemy as sa

from vmmonitor.db.incidents import OF_INSTANCE, from_row
from vmmonitor.db.session import Transaction
from vmmonitor.db.tables import INCIDENTS
from vmmonitor.model.incident import Incident
from vmmonitor.model.states import IncidentState


def unhandled_since(tx: Transaction, before: int, limit: int) -> list[Incident]:
    """Return the unhandled incidents whose last verdict was before a time, the oldest first.

    :param before: microseconds since the epoch.
    :param limit: maximum number of incidents.
    """
    query = (
        sa.select(INCIDENTS)
        .where(
            OF_INSTANCE,
            INCIDENTS.c.state == IncidentState.UNHANDLED,
            INCIDENTS.c.judged_at <= before,
        )
        .order_by(INCIDENTS.c.judged_at)
        .limit(limit)
    )
    return [from_row(row) for row in tx.execute(query)]


def begin_review(tx: Transaction, incident_id: str, before: int, now: int) -> bool:
    """Note that the verdict on an unhandled incident is requested again, by this engine.

    :param before: as for ``unhandled_since``; microseconds since the epoch, like ``now``.
    :return: False if another engine has begun it.
    """
    query = sa.update(INCIDENTS).where(
        INCIDENTS.c.incident_id == incident_id,
        INCIDENTS.c.state == IncidentState.UNHANDLED,
        INCIDENTS.c.judged_at <= before,
    )
    return bool(tx.execute(query.values(judged_at=now)).rowcount)
