# SPDX-License-Identifier: Apache-2.0
"""Limit recoveries: what an incident waits for, who comes first, and the gates that are shared."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the columns and the table of gates."""
    with op.batch_alter_table("incidents") as incidents:
        incidents.add_column(
            sa.Column("priority", sa.BigInteger(), nullable=False, server_default="0")
        )
        for name, length in (
            ("held_by", 16),
            ("part_of", 64),
            ("shared_cause", 255),
            ("override", 255),
        ):
            incidents.add_column(
                sa.Column(name, sa.String(length), nullable=False, server_default="")
            )
        incidents.create_index(
            "ix_incidents_state_held_by_priority", ["state", "held_by", "priority"]
        )
        incidents.create_index("ix_incidents_part_of_opened_at", ["part_of", "opened_at"])
        incidents.create_index(
            "ix_incidents_shared_cause_opened_at", ["shared_cause", "opened_at"]
        )
    with op.batch_alter_table("recoveries") as recoveries:
        recoveries.add_column(sa.Column("look_at", sa.BigInteger(), nullable=True))
        recoveries.create_index("ix_recoveries_state_look_at", ["state", "look_at"])
    op.create_table(
        "gates",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("name", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_gates"),
        sa.UniqueConstraint("name", name="uq_gates_name"),
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
    )
