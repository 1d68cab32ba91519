# SPDX-License-Identifier: Apache-2.0
"""Make the table of silences."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the table of silences."""
    long_text = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql")
    op.create_table(
        "silences",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("silence_id", sa.String(64), nullable=False),
        sa.Column("match", long_text, nullable=False),
        sa.Column("author", sa.String(255), nullable=False),
        sa.Column("comment", long_text, nullable=False),
        sa.Column("starts_at", sa.BigInteger(), nullable=False),
        sa.Column("ends_at", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expired_at", sa.BigInteger(), nullable=True),
        sa.Column("expired_by", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_silences"),
        sa.UniqueConstraint("silence_id", name="uq_silences_silence_id"),
        sa.Index("ix_silences_ends_at", "ends_at"),
        sa.Index("ix_silences_created_at", "created_at"),
        sa.Index("ix_silences_starts_at", "starts_at"),
        sa.Index("ix_silences_author_created_at", "author", "created_at"),
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
    )
