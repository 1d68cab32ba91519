# SPDX-License-Identifier: Apache-2.0
"""Make the table of requests."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0007"
down_revision = "0006"


def _long(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql"), nullable=False)


def upgrade() -> None:
    """Add the table of what operators want done."""
    op.create_table(
        "requests",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("verb", sa.String(16), nullable=False),
        sa.Column("incident_id", sa.String(64), nullable=False),
        sa.Column("recovery_id", sa.String(64), nullable=False),
        sa.Column("author", sa.String(255), nullable=False),
        _long("comment"),
        _long("options"),
        sa.Column("state", sa.String(16), nullable=False),
        _long("message"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_requests"),
        sa.UniqueConstraint("request_id", name="uq_requests_request_id"),
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
    )
    for columns in (
        ["state", "created_at"],
        ["incident_id", "created_at"],
        ["recovery_id", "created_at"],
        ["author", "created_at"],
        ["verb", "created_at"],
        ["created_at"],
        ["finished_at"],
    ):
        op.create_index(f"ix_requests_{'_'.join(columns)}", "requests", columns)
