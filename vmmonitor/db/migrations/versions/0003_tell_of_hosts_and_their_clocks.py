# SPDX-License-Identifier: Apache-2.0
"""Tell of hosts, which may be unwatched, and of their clocks.

New columns have defaults, so that an engine of the version before can still write while this one
is rolled out, and none rewrites the events: ``events.corrected_at`` is NULL in old rows, which
means that nothing was corrected.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Go from the version before to version 0003."""
    op.add_column("events", sa.Column("corrected_at", sa.BigInteger(), nullable=True))
    op.add_column(
        "incidents",
        sa.Column("kind", sa.String(16), nullable=False, server_default="instance"),
    )
    op.create_index("ix_incidents_kind_opened_at", "incidents", ["kind", "opened_at"])
    for name in ("clock_offset", "clock_correction"):
        op.add_column(
            "agents", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")
        )
    op.add_column(
        "agents", sa.Column("clock_samples", sa.String(255), nullable=False, server_default="")
    )
    op.add_column("agents", sa.Column("unwatched_since", sa.BigInteger(), nullable=True))
