# SPDX-License-Identifier: Apache-2.0
"""The file of a spool: its form, and what can still be read of a broken one.

When it is opened it gets ``RESERVE`` bytes of free pages in itself and in its write-ahead log, so
that a full disk does not stop the agent: SQLite uses these again and again.

Format of the file (``PRAGMA user_version``):

1. first form.
"""

import json
import os
import sqlite3
from typing import Any

from oslo_log import log

from vmmonitor.model.errors import VmmonitorError

LOG = log.getLogger(__name__)

FORMAT = 1
RESERVE = 4 * 1024 * 1024
#: SQLite keeps a spool in files of these endings.
ENDINGS = ("", "-wal", "-shm")

SCHEMA = """
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
"""
#: Table -> its columns; the last one holds JSON.
COLUMNS = {
    "event": "sequence, event_id, action, body",
    "refused": "sequence, event_id, reason, refused_at, body",
    "known": "uuid, body",
}


class WrongFormat(VmmonitorError):
    """The spool was written by a newer vmmonitor"""


def open_file(path: str) -> sqlite3.Connection:
    """Open a spool, or make one.

    :raises sqlite3.DatabaseError: it is broken, or cannot be opened.
    :raises WrongFormat: a newer vmmonitor wrote it.
    """
    # SQLite gives its other files the rights of this one: definitions of instances are nobody
    # else's business.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        if db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("file is not a database: quick_check failed")
        found = db.execute("PRAGMA user_version").fetchone()[0]
        if found > FORMAT:
            raise WrongFormat(found=found, known=FORMAT, path=path)
        if found == 0:
            _create(db)
        _reserve(db)
    except BaseException:
        db.close()
        raise
    return db


def _create(db: sqlite3.Connection) -> None:
    with db:
        db.execute("BEGIN IMMEDIATE")
        for statement in SCHEMA.split(";"):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {FORMAT}")


def _reserve(db: sqlite3.Connection) -> None:
    """Take room for ``RESERVE`` bytes; the write-ahead log of an earlier life is gone."""
    try:
        db.execute("REPLACE INTO known (uuid, body) VALUES ('', zeroblob(?))", (RESERVE,))
        db.execute("PRAGMA wal_checkpoint(FULL)")
        db.execute("DELETE FROM known WHERE uuid = ''")
    except sqlite3.OperationalError as error:
        LOG.warning("The spool has no reserve for a full disk: %s", error)


def is_broken(error: Exception) -> bool:
    """Tell a broken file from one that cannot be used just now."""
    return type(error) is sqlite3.DatabaseError or any(
        word in str(error) for word in ("malformed", "not a database", "no such table")
    )


def readable(path: str) -> dict[str, list[tuple]]:
    """Return the whole rows of a broken spool: of each table, from both ends to the damage.

    :returns: table -> rows as in COLUMNS, by their first column.
    """
    found = {}
    for table, columns in COLUMNS.items():
        rows = {
            row[0]: row
            for end in ("ASC", "DESC")
            for row in _rows(path, f"SELECT {columns} FROM {table} ORDER BY 1 {end}")
        }
        found[table] = [rows[key] for key in sorted(rows)]
    return found


def write(db: sqlite3.Connection, found: dict[str, list[tuple]]) -> None:
    """Put the rows into a new spool, in one transaction."""
    with db:
        db.execute("BEGIN IMMEDIATE")
        for table, rows in found.items():
            columns = COLUMNS[table]
            marks = ", ".join("?" for _ in columns.split(", "))
            db.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)


def _rows(path: str, query: str) -> list[tuple]:
    rows: list[tuple] = []
    try:
        db = sqlite3.connect(path, isolation_level=None)
        try:
            db.text_factory = lambda text: text.decode(errors="replace")
            rows += (row for row in db.execute(query) if _is_json(row[-1]))
        finally:
            db.close()
    except sqlite3.Error as error:
        LOG.warning("Reading the broken spool ended after %d rows: %s", len(rows), error)
    return rows


def _is_json(body: Any) -> bool:
    try:
        json.loads(body)
    except (ValueError, TypeError):
        return False
    return True
