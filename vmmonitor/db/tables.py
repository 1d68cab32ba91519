# SPDX-License-Identifier: Apache-2.0
"""Define the tables. Columns are named after the model's fields; times are microseconds since the
epoch.

The tables do not have foreign keys: each would lock the parent row (an incident) for every child
(its events and timeline entries), and concurrent batches would deadlock. The rows of one incident
are deleted together.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from vmmonitor.db.column_types import Json, LongPlain, Plain

#: Ascending number of a row, which breaks ties in every list. SQLite generates numbers only for
#: INTEGER.
ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

#: Options of each table on MySQL: it stores any character, and its ids are case-sensitive.
ON_MYSQL: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
}

METADATA = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


def _id() -> sa.Column[int]:
    return sa.Column("id", ROW_ID, primary_key=True, autoincrement=True)


def _text(name: str, length: int = 255) -> sa.Column[str]:
    return sa.Column(name, Plain(length), nullable=False)


def _key(name: str, length: int = 64) -> sa.Column[str]:
    """Return a column that is unique among open rows; NULL in closed rows."""
    return sa.Column(name, Plain(length), nullable=True, unique=True)


def _long(name: str) -> sa.Column[str]:
    return sa.Column(name, LongPlain(), nullable=False)


def _json(name: str) -> sa.Column[Any]:
    return sa.Column(name, Json(), nullable=False)


def _number(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def _instance() -> list[sa.Column[str]]:
    """Return the columns of an instance's identity."""
    return [
        _text("instance_uuid", 64),
        _text("instance_name"),
        _text("hypervisor_name"),
        _text("project_id", 64),
        _text("project_name"),
        _text("user_id", 64),
        _text("user_name"),
        _text("flavor"),
    ]


def _table(name: str, *parts: sa.schema.SchemaItem, **options: Any) -> sa.Table:
    return sa.Table(name, METADATA, *parts, **ON_MYSQL, **options)


EVENTS = _table(
    "events",
    _id(),
    _text("event_id", 64),
    _text("host"),
    *_instance(),
    _text("source", 64),
    _text("type"),
    _text("detail"),
    _number("occurred_at"),
    _json("attributes"),
    _number("sequence"),
    _text("action", 16),
    _text("severity", 16),
    _text("rule"),
    sa.Column("incident_id", Plain(64), nullable=True),
    _number("spooled_at"),
    _number("sent_at"),
    _number("received_at"),
    _number("stored_at"),
    _number("corrected_at"),
    sa.Column("authenticated", sa.Boolean(), nullable=False),
    sa.UniqueConstraint("event_id"),
    sa.Index(None, "instance_uuid", "occurred_at"),
    sa.Index(None, "host", "occurred_at"),
    sa.Index(None, "type", "occurred_at"),
    sa.Index(None, "incident_id", "occurred_at"),
    sa.Index(None, "project_id", "occurred_at"),
    sa.Index(None, "source", "occurred_at"),
    sa.Index(None, "detail", "occurred_at"),
    sa.Index(None, "severity", "occurred_at"),
    sa.Index(None, "action", "occurred_at"),
    sa.Index(None, "occurred_at"),
    sa.Index(None, "stored_at"),
)

INCIDENTS = _table(
    "incidents",
    _id(),
    _text("incident_id", 64),
    _key("open_key", 320),
    *_instance(),
    _text("host"),
    _text("cause"),
    _text("severity", 16),
    _text("state", 16),
    _long("reason"),
    _text("policy"),
    _number("opened_at"),
    _number("hold_until"),
    _number("updated_at"),
    _number("event_count"),
    _number("running_at", nullable=True),
    _number("closed_at", nullable=True),
    _text("kind", 16),
    _number("priority"),
    _text("held_by", 16),
    _text("part_of", 64),
    _text("shared_cause"),
    _text("override"),
    # When the verdict on an unhandled incident was last requested.
    _number("judged_at", nullable=True),
    sa.UniqueConstraint("incident_id"),
    sa.Index(None, "state", "opened_at"),
    sa.Index(None, "instance_uuid", "opened_at"),
    sa.Index(None, "host", "opened_at"),
    sa.Index(None, "project_id", "opened_at"),
    sa.Index(None, "cause", "opened_at"),
    sa.Index(None, "severity", "opened_at"),
    sa.Index(None, "policy", "opened_at"),
    sa.Index(None, "kind", "opened_at"),
    sa.Index(None, "opened_at"),
    sa.Index(None, "updated_at"),
    sa.Index(None, "state", "hold_until"),
    sa.Index(None, "state", "held_by", "priority"),
    sa.Index(None, "state", "judged_at"),
    sa.Index(None, "part_of", "opened_at"),
    sa.Index(None, "shared_cause", "opened_at"),
    sa.Index(None, "closed_at"),
)

TIMELINE_ENTRIES = _table(
    "timeline_entries",
    _id(),
    _text("incident_id", 64),
    _number("at"),
    _text("kind", 16),
    _long("message"),
    _json("data"),
    sa.Index(None, "incident_id"),
)

RECOVERIES = _table(
    "recoveries",
    _id(),
    _text("recovery_id", 64),
    _key("open_key"),
    _text("incident_id", 64),
    _text("instance_uuid", 64),
    _text("host"),
    _text("policy"),
    _text("driver", 64),
    _number("step"),
    _number("attempt"),
    _text("state", 16),
    _number("not_before"),
    _number("created_at"),
    _number("token"),
    _number("takeovers"),
    _number("failure_number"),
    _text("lease_owner", 64),
    _number("lease_until"),
    _number("wait_until"),
    _number("called_at", nullable=True),
    _number("returned_at", nullable=True),
    _number("finished_at", nullable=True),
    _long("message"),
    _number("look_at", nullable=True),
    sa.UniqueConstraint("recovery_id"),
    sa.Index(None, "incident_id", "created_at"),
    sa.Index(None, "instance_uuid", "created_at"),
    sa.Index(None, "state", "created_at"),
    sa.Index(None, "driver", "created_at"),
    sa.Index(None, "host", "created_at"),
    sa.Index(None, "created_at"),
    sa.Index(None, "state", "not_before"),
    sa.Index(None, "state", "lease_until"),
    sa.Index(None, "state", "wait_until"),
    sa.Index(None, "state", "look_at"),
)

#: The newest fence token of each instance.
FENCES = sa.Table(
    "fences",
    METADATA,
    sa.Column("instance_uuid", Plain(64), primary_key=True),
    _number("token"),
    sa.Index(None, "token"),
    **ON_MYSQL,
)

LOCKS = _table("locks", _id(), _text("name"), _number("taken"), sa.UniqueConstraint("name"))

SILENCES = _table(
    "silences",
    _id(),
    _text("silence_id", 64),
    _json("match"),
    _text("author"),
    _long("comment"),
    _number("starts_at"),
    _number("ends_at"),
    _number("created_at"),
    _number("expired_at", nullable=True),
    _text("expired_by"),
    sa.UniqueConstraint("silence_id"),
    sa.Index(None, "ends_at"),
    sa.Index(None, "created_at"),
    sa.Index(None, "starts_at"),
    sa.Index(None, "author", "created_at"),
)

AGENTS = _table(
    "agents",
    _id(),
    _text("host"),
    _text("state", 16),
    _number("seen_at"),
    _text("reported_state", 16),
    _long("reason"),
    _text("version", 64),
    _number("sent_at"),
    _number("started_at"),
    sa.Column("interval", sa.Double(), nullable=False, quote=True),
    _number("spool_depth"),
    _number("spool_refused"),
    _number("last_event_at"),
    _text("filter_checksum", 64),
    _text("inventory_digest", 64),
    _text("held_digest", 64),
    _number("instances"),
    _json("figures"),
    _number("clock_offset"),
    _number("clock_correction"),
    _text("clock_samples"),
    _number("unwatched_since", nullable=True),
    _text("machine_id", 64),
    _text("boot_id", 64),
    _text("other_identity"),
    _number("other_seen_at"),
    _number("contended_at", nullable=True),
    _text("expected_name"),
    _long("conflict"),
    sa.UniqueConstraint("host"),
    sa.Index(None, "state", "host"),
    sa.Index(None, "seen_at"),
)

HOSTS = _table(
    "hosts",
    _id(),
    _text("host"),
    *(_text(name, 64) for name in ("issued_key", "used_key")),
    *(_number(name) for name in ("added_at", "signed_at")),
    sa.UniqueConstraint("host"),
)

INSTANCES = _table(
    "instances",
    _id(),
    _text("host"),
    *_instance(),
    _text("state", 32),
    _text("reason"),
    _number("run_id"),
    sa.Column("persistent", sa.Boolean(), nullable=False),
    sa.Column("autostart", sa.Boolean(), nullable=False),
    sa.Column("present", sa.Boolean(), nullable=False),
    _number("lost_at"),
    sa.UniqueConstraint("host", "instance_uuid"),
    sa.Index(None, "instance_uuid"),
)

OWNERS = _table(
    "owners",
    _id(),
    _text("instance_uuid", 64),
    _text("host"),
    _number("since"),
    _number("released_at", nullable=True),
    sa.UniqueConstraint("instance_uuid"),
    sa.Index(None, "since"),
)

HOST_CLAIMS = _table(
    "host_claims",
    _id(),
    *_instance(),
    _text("host"),
    _number("since"),
    _number("last_at"),
    sa.Column("running", sa.Boolean(), nullable=False),
    sa.Column("contested", sa.Boolean(), nullable=False),
    _number("checked_at"),
    _number("reported_at", nullable=True),
    sa.UniqueConstraint("instance_uuid", "host"),
    sa.Index(None, "host"),
    sa.Index(None, "checked_at"),
)

DRIFT_RECORDS = _table(
    "drift_records",
    _id(),
    *_instance(),
    _text("host"),
    _json("hosts"),
    _text("key"),
    _number("first_seen_at"),
    _number("last_seen_at"),
    _text("reported_key"),
    _text("event_id", 64),
    sa.UniqueConstraint("instance_uuid"),
)

EVIDENCE = _table(
    "evidence",
    _id(),
    _text("event_id", 64),
    _text("kind", 32),
    _text("content_type", 64),
    _number("size"),
    _text("sha256", 64),
    _number("captured_at"),
    _long("message"),
    sa.Column("content", sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql"), nullable=False),
    sa.UniqueConstraint("event_id", "kind"),
)

REQUESTS = _table(
    "requests",
    _id(),
    _text("request_id", 64),
    _text("verb", 16),
    _text("incident_id", 64),
    _text("recovery_id", 64),
    _text("author"),
    _long("comment"),
    _json("options"),
    _text("state", 16),
    _long("message"),
    _number("created_at"),
    _number("finished_at", nullable=True),
    sa.UniqueConstraint("request_id"),
    sa.Index(None, "state", "created_at"),
    sa.Index(None, "incident_id", "created_at"),
    sa.Index(None, "recovery_id", "created_at"),
    sa.Index(None, "author", "created_at"),
    sa.Index(None, "verb", "created_at"),
    sa.Index(None, "created_at"),
    sa.Index(None, "finished_at"),
)

OUTBOX = _table(
    "outbox",
    _id(),
    _text("incident_id", 64),
    _text("event_type", 64),
    _text("priority", 16),
    _json("payload"),
    _number("created_at"),
    _text("lease_owner", 64),
    _number("lease_until"),
    sa.Index(None, "incident_id", "id"),
    # Without it, SQLite reuses the numbers of deleted rows.
    sqlite_autoincrement=True,
)
