# SPDX-License-Identifier: Apache-2.0
"""Remember which instances are lost, and where they are not as they should be."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0002"
down_revision = "0001"

# Spelt out here instead of taken from ``tables``, which goes on while this step stays.
LONG_TEXT = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql")
ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TEXTS = {
    "instance_uuid": 64,
    "instance_name": 255,
    "hypervisor_name": 255,
    "project_id": 64,
    "project_name": 255,
    "user_id": 64,
    "user_name": 255,
    "flavor": 255,
    "host": 255,
}


def upgrade() -> None:
    """Go from version 0001 to version 0002."""
    for column in (
        sa.Column("autostart", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("present", sa.Boolean(), nullable=False, server_default=sa.true()),
        sa.Column("lost_at", sa.BigInteger(), nullable=False, server_default="0"),
    ):
        op.add_column("instances", column)
    op.create_table(
        "mismatches",
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        *(text(name, length) for name, length in TEXTS.items()),
        sa.Column("hosts", LONG_TEXT, nullable=False),
        text("key", 255),
        sa.Column("first_seen_at", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_at", sa.BigInteger(), nullable=False),
        text("told_key", 255),
        text("event_id", 64),
        sa.PrimaryKeyConstraint("id", name="pk_mismatches"),
        sa.UniqueConstraint("instance_uuid", name="uq_mismatches_instance_uuid"),
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
    )


def text(name: str, length: int) -> sa.Column[Any]:
    """Return a column of text of at most this many characters."""
    return sa.Column(name, sa.String(length), nullable=False)
