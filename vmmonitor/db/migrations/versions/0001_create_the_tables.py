# SPDX-License-Identifier: Apache-2.0
"""Create the tables of the first release."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None

# Not taken from ``tables``, which changes while a released revision stays as it is.
LONG_TEXT = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql")
LONG_BINARY = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql")
ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
ON_MYSQL: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
}
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
    """Upgrade an empty database to version 0001."""
    create_events()
    create_incidents()
    create_timeline_entries()
    create_recoveries()
    create_fences()
    create_locks()
    create_silences()
    create_agents()
    create_hosts()
    create_instances()
    create_owners()
    create_host_claims()
    create_drift_records()
    create_evidence()
    create_requests()
    create_outbox()


def create_events() -> None:
    """Create the table of events."""
    create(
        "events",
        *texts({"event_id": 64, "host": 255, **INSTANCE}),
        *texts({"source": 64, "type": 255, "detail": 255}),
        *numbers("occurred_at"),
        *long_texts("attributes"),
        *numbers("sequence"),
        *texts({"action": 16, "severity": 16, "rule": 255}),
        sa.Column("incident_id", sa.String(64), nullable=True),
        *numbers("spooled_at", "sent_at", "received_at", "stored_at", "corrected_at"),
        sa.Column("authenticated", sa.Boolean(), nullable=False),
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


def create_incidents() -> None:
    """Create the table of incidents."""
    create(
        "incidents",
        *texts({"incident_id": 64}),
        sa.Column("open_key", sa.String(320), nullable=True),
        *texts({**INSTANCE, "host": 255, "cause": 255, "severity": 16, "state": 16}),
        *long_texts("reason"),
        *texts({"policy": 255}),
        *numbers("opened_at", "hold_until", "updated_at", "event_count"),
        *numbers("running_at", "closed_at", nullable=True),
        *texts({"kind": 16}),
        *numbers("priority"),
        *texts({"held_by": 16, "part_of": 64, "shared_cause": 255, "override": 255}),
        *numbers("judged_at", nullable=True),
        unique=[["incident_id"], ["open_key"]],
        indexes=[
            ["state", "opened_at"],
            ["instance_uuid", "opened_at"],
            ["host", "opened_at"],
            ["project_id", "opened_at"],
            ["cause", "opened_at"],
            ["severity", "opened_at"],
            ["policy", "opened_at"],
            ["kind", "opened_at"],
            ["opened_at"],
            ["updated_at"],
            ["state", "hold_until"],
            ["state", "held_by", "priority"],
            ["state", "judged_at"],
            ["part_of", "opened_at"],
            ["shared_cause", "opened_at"],
            ["closed_at"],
        ],
    )


def create_timeline_entries() -> None:
    """Create the table of the entries of the incidents' timelines."""
    create(
        "timeline_entries",
        *texts({"incident_id": 64}),
        *numbers("at"),
        *texts({"kind": 16}),
        *long_texts("message", "data"),
        indexes=[["incident_id"]],
    )


def create_recoveries() -> None:
    """Create the table of recoveries."""
    create(
        "recoveries",
        *texts({"recovery_id": 64}),
        sa.Column("open_key", sa.String(64), nullable=True),
        *texts({"incident_id": 64, "instance_uuid": 64, "host": 255}),
        *texts({"policy": 255, "driver": 64}),
        *numbers("step", "attempt"),
        *texts({"state": 16}),
        *numbers("not_before", "created_at", "token", "takeovers", "failure_number"),
        *texts({"lease_owner": 64}),
        *numbers("lease_until", "wait_until"),
        *numbers("called_at", "returned_at", "finished_at", nullable=True),
        *long_texts("message"),
        *numbers("look_at", nullable=True),
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
            ["state", "look_at"],
        ],
    )


def create_fences() -> None:
    """Create the table of the fence tokens of instances."""
    op.create_table(
        "fences",
        sa.Column("instance_uuid", sa.String(64), nullable=False),
        *numbers("token"),
        sa.PrimaryKeyConstraint("instance_uuid", name="pk_fences"),
        **ON_MYSQL,
    )
    op.create_index("ix_fences_token", "fences", ["token"])


def create_locks() -> None:
    """Create the table of named locks."""
    create("locks", *texts({"name": 255}), *numbers("taken"), unique=[["name"]])


def create_silences() -> None:
    """Create the table of silences."""
    create(
        "silences",
        *texts({"silence_id": 64}),
        *long_texts("match"),
        *texts({"author": 255}),
        *long_texts("comment"),
        *numbers("starts_at", "ends_at", "created_at"),
        *numbers("expired_at", nullable=True),
        *texts({"expired_by": 255}),
        unique=[["silence_id"]],
        indexes=[["ends_at"], ["created_at"], ["starts_at"], ["author", "created_at"]],
    )


def create_agents() -> None:
    """Create the table of agents."""
    create(
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
        *numbers("clock_offset", "clock_correction"),
        *texts({"clock_samples": 255}),
        *numbers("unwatched_since", nullable=True),
        *texts({"machine_id": 64, "boot_id": 64, "other_identity": 255}),
        *numbers("other_seen_at"),
        *numbers("contended_at", nullable=True),
        *texts({"expected_name": 255}),
        *long_texts("conflict"),
        unique=[["host"]],
        indexes=[["state", "host"], ["seen_at"]],
    )


def create_hosts() -> None:
    """Create the table of the registered hosts."""
    create(
        "hosts",
        *texts({"host": 255, "issued_key": 64, "used_key": 64}),
        *numbers("added_at", "signed_at"),
        unique=[["host"]],
    )


def create_instances() -> None:
    """Create the table of the instances in the hosts' inventories."""
    create(
        "instances",
        *texts({"host": 255, **INSTANCE, "state": 32, "reason": 255}),
        *numbers("run_id"),
        *(
            sa.Column(name, sa.Boolean(), nullable=False)
            for name in ("persistent", "autostart", "present")
        ),
        *numbers("lost_at"),
        unique=[["host", "instance_uuid"]],
        indexes=[["instance_uuid"]],
    )


def create_owners() -> None:
    """Create the table of the host that each instance belongs to."""
    create(
        "owners",
        *texts({"instance_uuid": 64, "host": 255}),
        *numbers("since"),
        *numbers("released_at", nullable=True),
        unique=[["instance_uuid"]],
        indexes=[["since"]],
    )


def create_host_claims() -> None:
    """Create the table of the instances that hosts report and that belong to other hosts."""
    create(
        "host_claims",
        *texts({**INSTANCE, "host": 255}),
        *numbers("since", "last_at"),
        *(sa.Column(name, sa.Boolean(), nullable=False) for name in ("running", "contested")),
        *numbers("checked_at"),
        *numbers("reported_at", nullable=True),
        unique=[["instance_uuid", "host"]],
        indexes=[["host"], ["checked_at"]],
    )


def create_drift_records() -> None:
    """Create the table of the differences between desired and observed state."""
    create(
        "drift_records",
        *texts({**INSTANCE, "host": 255}),
        *long_texts("hosts"),
        *texts({"key": 255}),
        *numbers("first_seen_at", "last_seen_at"),
        *texts({"reported_key": 255, "event_id": 64}),
        unique=[["instance_uuid"]],
    )


def create_evidence() -> None:
    """Create the table of evidence."""
    create(
        "evidence",
        *texts({"event_id": 64, "kind": 32, "content_type": 64}),
        *numbers("size"),
        *texts({"sha256": 64}),
        *numbers("captured_at"),
        *long_texts("message"),
        sa.Column("content", LONG_BINARY, nullable=False),
        unique=[["event_id", "kind"]],
    )


def create_requests() -> None:
    """Create the table of operator requests."""
    create(
        "requests",
        *texts({"request_id": 64, "verb": 16, "incident_id": 64, "recovery_id": 64}),
        *texts({"author": 255}),
        *long_texts("comment", "options"),
        *texts({"state": 16}),
        *long_texts("message"),
        *numbers("created_at"),
        *numbers("finished_at", nullable=True),
        unique=[["request_id"]],
        indexes=[
            ["state", "created_at"],
            ["incident_id", "created_at"],
            ["recovery_id", "created_at"],
            ["author", "created_at"],
            ["verb", "created_at"],
            ["created_at"],
            ["finished_at"],
        ],
    )


def create_outbox() -> None:
    """Create the table of the notifications that wait to be sent."""
    create(
        "outbox",
        *texts({"incident_id": 64, "event_type": 64, "priority": 16}),
        *long_texts("payload"),
        *numbers("created_at"),
        *texts({"lease_owner": 64}),
        *numbers("lease_until"),
        indexes=[["incident_id", "id"]],
        # Without it SQLite reuses the number of a deleted row.
        sqlite_autoincrement=True,
    )


def create(
    table: str,
    *columns: sa.Column[Any],
    indexes: list[list[str]] | None = None,
    unique: list[list[str]] | None = None,
    **options: Any,
) -> None:
    """Create a table with a row number.

    :param indexes: the columns of each index.
    :param unique: the columns of each unique key.
    """
    op.create_table(
        table,
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        *columns,
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
        *(
            sa.UniqueConstraint(*names, name=f"uq_{table}_{'_'.join(names)}")
            for names in unique or []
        ),
        **ON_MYSQL,
        **options,
    )
    for names in indexes or []:
        op.create_index(f"ix_{table}_{'_'.join(names)}", table, names)


def texts(lengths: dict[str, int]) -> list[sa.Column[Any]]:
    """Return columns of text, given their maximum lengths in characters."""
    return [sa.Column(name, sa.String(length), nullable=False) for name, length in lengths.items()]


def long_texts(*names: str) -> list[sa.Column[Any]]:
    """Return columns of long text."""
    return [sa.Column(name, LONG_TEXT, nullable=False) for name in names]


def numbers(*names: str, nullable: bool = False) -> list[sa.Column[Any]]:
    """Return columns of 64-bit integers."""
    return [sa.Column(name, sa.BigInteger(), nullable=nullable) for name in names]
