# SPDX-License-Identifier: Apache-2.0
"""The file of the spool: its schema, and the recovery of a broken one.

Opening the file reserves ``RESERVED_BYTES`` of free pages in it and in its write-ahead log, which
SQLite reuses, so that a full disk does not stop the agent at once.

History of the schema (``PRAGMA user_version``):

1. first version.
2. table fence.
"""

import json
import os
import sqlite3
from typing import Any

from oslo_log import log

from vmmonitor.model.errors import VmmonitorError

LOG = log.getLogger(__name__)

SCHEMA_VERSION = 2
RESERVED_BYTES = 4 * 1024 * 1024
#: Suffixes of the SQLite files of a spool.
FILE_SUFFIXES = ("", "-wal", "-shm")

SPOOL_SCHEMA = """
CREATE TABLE IF NOT EXISTS event (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL,
    action TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS event_action ON event (action, sequence);
CREATE TABLE IF NOT EXISTS refused (
    sequence INTEGER PRIMARY KEY,
    event_id TEXT NOT NULL,
    body TEXT NOT NULL,
    reason TEXT NOT NULL,
    refused_at INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS known (
    uuid TEXT PRIMARY KEY,
    body TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS fence (
    uuid TEXT PRIMARY KEY,
    accepted_at INTEGER NOT NULL,
    token TEXT NOT NULL
);
"""
#: Table -> its columns; the last one holds JSON (a token is a number).
TABLE_COLUMNS = {
    "event": "sequence, event_id, action, body",
    "refused": "sequence, event_id, reason, refused_at, body",
    "known": "uuid, body",
    "fence": "uuid, accepted_at, token",
}


class WrongFormat(VmmonitorError):
    """The spool was written by a newer version of vmmonitor"""


def open_file(path: str) -> sqlite3.Connection:
    """Open or create the file of a spool.

    :raises sqlite3.DatabaseError: the file is broken, or cannot be opened.
    :raises WrongFormat: a newer version of vmmonitor wrote it.
    """
    # SQLite gives its other files the mode of this one. The definitions of instances in it are
    # confidential.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        if db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("file is not a database: quick_check failed")
        found = db.execute("PRAGMA user_version").fetchone()[0]
        if found > SCHEMA_VERSION:
            raise WrongFormat(found=found, known=SCHEMA_VERSION, path=path)
        if found < SCHEMA_VERSION:
            _create(db)
        _reserve(db)
    except BaseException:
        db.close()
        raise
    return db


def _create(db: sqlite3.Connection) -> None:
    """Create the tables that the file does not have."""
    with db:
        db.execute("BEGIN IMMEDIATE")
        for statement in SPOOL_SCHEMA.split(";"):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _reserve(db: sqlite3.Connection) -> None:
    """Reserve ``RESERVED_BYTES`` in the file and in its new write-ahead log."""
    try:
        db.execute("REPLACE INTO known (uuid, body) VALUES ('', zeroblob(?))", (RESERVED_BYTES,))
        db.execute("PRAGMA wal_checkpoint(FULL)")
        db.execute("DELETE FROM known WHERE uuid = ''")
    except sqlite3.OperationalError as error:
        LOG.warning("Could not reserve space for a full disk in the spool: %s", error)


def is_broken(error: Exception) -> bool:
    """Return whether an error means a broken file, and not a temporary failure."""
    return type(error) is sqlite3.DatabaseError or any(
        text in str(error) for text in ("malformed", "not a database", "no such table")
    )


def read_rows(path: str) -> dict[str, list[tuple]]:
    """Return the intact rows of a broken spool: each table is read from both ends to the damage.

    :returns: table -> rows as in TABLE_COLUMNS, ordered by their first column.
    """
    found = {}
    for table, columns in TABLE_COLUMNS.items():
        rows = {
            row[0]: row
            for end in ("ASC", "DESC")
            for row in _read_table(path, f"SELECT {columns} FROM {table} ORDER BY 1 {end}")
        }
        found[table] = [rows[key] for key in sorted(rows)]
    return found


def write_rows(db: sqlite3.Connection, found: dict[str, list[tuple]]) -> None:
    """Insert rows into a new spool, in one transaction."""
    with db:
        db.execute("BEGIN IMMEDIATE")
        for table, rows in found.items():
            columns = TABLE_COLUMNS[table]
            marks = ", ".join("?" for _ in columns.split(", "))
            db.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)


def _read_table(path: str, query: str) -> list[tuple]:
    rows: list[tuple] = []
    try:
        db = sqlite3.connect(path, isolation_level=None)
        try:
            db.text_factory = lambda text: text.decode(errors="replace")
            rows += (row for row in db.execute(query) if _is_json(row[-1]))
        finally:
            db.close()
    except sqlite3.Error as error:
        LOG.warning("Recovered %d rows of a broken spool, then: %s", len(rows), error)
    return rows


def _is_json(body: Any) -> bool:
    try:
        json.loads(body)
    except (ValueError, TypeError):
        return False
    return True
