# SPDX-License-Identifier: Apache-2.0
"""Make the first tables."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None

# Spelt out here instead of taken from ``tables``, which goes on while this step stays.
LONG_TEXT = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql")
ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INSTANCE = {
    "instance_uuid": 64,
    "instance_name": 255,
    "hypervisor_name": 255,
    "project_id": 64,
    "project_name": 255,
    "user_id": 64,
    "user_name": 255,
    "flavor": 255,
}


def upgrade() -> None:
    """Go from an empty database to version 0001."""
    make_events()
    make_incidents()
    make_incident_steps()
    make_recoveries()
    make_agents()
    make_instances()


def make_events() -> None:
    """Make the table of events and its indexes."""
    make(
        "events",
        *texts({"event_id": 64, "host": 255, **INSTANCE}),
        *texts({"source": 64, "type": 255, "detail": 255}),
        *numbers("occurred_at"),
        *long_texts("attributes"),
        *numbers("sequence"),
        *texts({"action": 16, "severity": 16, "rule": 255}),
        sa.Column("incident_id", sa.String(64), nullable=True),
        *numbers("spooled_at", "sent_at", "received_at", "stored_at"),
        unique=[["event_id"]],
        indexes=[
            ["instance_uuid", "occurred_at"],
            ["host", "occurred_at"],
            ["type", "occurred_at"],
            ["incident_id", "occurred_at"],
            ["project_id", "occurred_at"],
            ["source", "occurred_at"],
            ["detail", "occurred_at"],
            ["severity", "occurred_at"],
            ["action", "occurred_at"],
            ["occurred_at"],
            ["stored_at"],
        ],
    )


def make_incidents() -> None:
    """Make the table of incidents and its indexes."""
    make(
        "incidents",
        *texts({"incident_id": 64}),
        sa.Column("open_key", sa.String(64), nullable=True),
        *texts({**INSTANCE, "host": 255, "cause": 255, "severity": 16, "state": 16}),
        *long_texts("reason"),
        *texts({"policy": 255}),
        *numbers("opened_at", "hold_until", "updated_at", "event_count"),
        *numbers("running_at", "closed_at", nullable=True),
        unique=[["incident_id"], ["open_key"]],
        indexes=[
            ["state", "opened_at"],
            ["instance_uuid", "opened_at"],
            ["host", "opened_at"],
            ["project_id", "opened_at"],
            ["cause", "opened_at"],
            ["severity", "opened_at"],
            ["policy", "opened_at"],
            ["opened_at"],
            ["updated_at"],
            ["state", "hold_until"],
            ["closed_at"],
        ],
    )


def make_incident_steps() -> None:
    """Make the table of the incidents' time lines and its index."""
    make(
        "incident_steps",
        *texts({"incident_id": 64}),
        *numbers("at"),
        *texts({"kind": 16}),
        *long_texts("message", "data"),
        indexes=[["incident_id"]],
    )


def make_recoveries() -> None:
    """Make the table of recoveries and its indexes."""
    make(
        "recoveries",
        *texts({"recovery_id": 64}),
        sa.Column("open_key", sa.String(64), nullable=True),
        *texts({"incident_id": 64, "instance_uuid": 64, "host": 255}),
        *texts({"policy": 255, "driver": 64}),
        *numbers("step", "attempt"),
        *texts({"state": 16}),
        *numbers("not_before", "created_at"),
        *texts({"lease_owner": 64}),
        *numbers("lease_until", "wait_until"),
        *numbers("called_at", "finished_at", nullable=True),
        *long_texts("message"),
        unique=[["recovery_id"], ["open_key"]],
        indexes=[
            ["incident_id", "created_at"],
            ["instance_uuid", "created_at"],
            ["state", "created_at"],
            ["driver", "created_at"],
            ["host", "created_at"],
            ["created_at"],
            ["state", "not_before"],
            ["state", "lease_until"],
            ["state", "wait_until"],
        ],
    )


def make_agents() -> None:
    """Make the table of agents and its indexes."""
    make(
        "agents",
        *texts({"host": 255, "state": 16}),
        *numbers("seen_at"),
        *texts({"reported_state": 16}),
        *long_texts("reason"),
        *texts({"version": 64}),
        *numbers("sent_at", "started_at"),
        sa.Column("interval", sa.Double(), nullable=False, quote=True),
        *numbers("spool_depth", "spool_refused", "last_event_at"),
        *texts({"filter_checksum": 64, "inventory_digest": 64, "held_digest": 64}),
        *numbers("instances"),
        *long_texts("figures"),
        unique=[["host"]],
        indexes=[["state", "host"], ["seen_at"]],
    )


def make_instances() -> None:
    """Make the table of what each host last listed and its indexes."""
    make(
        "instances",
        *texts({"host": 255, **INSTANCE, "state": 32, "reason": 255}),
        *numbers("run_id"),
        sa.Column("persistent", sa.Boolean(), nullable=False),
        unique=[["host", "instance_uuid"]],
        indexes=[["instance_uuid"]],
    )


def make(
    table: str,
    *columns: sa.Column[Any],
    indexes: list[list[str]],
    unique: list[list[str]] | None = None,
) -> None:
    """Make a table with a row number, unique keys and indexes; each of them lists its columns."""
    op.create_table(
        table,
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        *columns,
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
        *(
            sa.UniqueConstraint(*names, name=f"uq_{table}_{'_'.join(names)}")
            for names in unique or []
        ),
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
    )
    for names in indexes:
        op.create_index(f"ix_{table}_{'_'.join(names)}", table, names)


def texts(lengths: dict[str, int]) -> list[sa.Column[Any]]:
    """Return columns of text, given their greatest lengths in characters."""
    return [sa.Column(name, sa.String(length), nullable=False) for name, length in lengths.items()]


def long_texts(*names: str) -> list[sa.Column[Any]]:
    """Return columns of long text."""
    return [sa.Column(name, LONG_TEXT, nullable=False) for name in names]


def numbers(*names: str, nullable: bool = False) -> list[sa.Column[Any]]:
    """Return columns of 64-bit numbers."""
    return [sa.Column(name, sa.BigInteger(), nullable=nullable) for name in names]
