# SPDX-License-Identifier: Apache-2.0
"""The agent's durable, ordered, bounded outbox, and beside it what the agent last knew.

One SQLite file in WAL mode. An event and what it changes in the agent's knowledge are one
transaction, so that after any death both are there or neither is: nothing is told twice, nothing
is left out. An append is on the disk (fsync) when it returns; forgetting what the engine has
acknowledged is not worth an fsync, because a batch that is sent again is stored once.

A new file is made with ``RESERVE`` bytes of free pages in itself and in its write-ahead log, so
that a full disk does not stop the agent: SQLite uses these again and again.

Format of the file (``PRAGMA user_version``):

1. first form.
"""

import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from oslo_log import log

from vmmonitor.model.errors import Retriable, VmmonitorError
from vmmonitor.model.event import RECOVER

LOG = log.getLogger(__name__)

FORMAT = 1
RESERVE = 4 * 1024 * 1024

SCHEMA = """
CREATE TABLE event (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL,
    action TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX event_action ON event (action, sequence);
CREATE TABLE refused (
    sequence INTEGER PRIMARY KEY,
    event_id TEXT NOT NULL,
    body TEXT NOT NULL,
    reason TEXT NOT NULL,
    refused_at INTEGER NOT NULL
);
CREATE TABLE known (
    uuid TEXT PRIMARY KEY,
    body TEXT NOT NULL
);
"""


class SpoolUnavailable(Retriable):
    """The spool cannot be written"""


class WrongFormat(VmmonitorError):
    """The spool was written by a newer vmmonitor"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One spooled event: its place in the order, and its form."""

    sequence: int
    body: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """An event that the engine refused; kept until somebody looks."""

    sequence: int
    event_id: str
    reason: str
    refused_at: int
    body: dict[str, Any]


class Spool:
    """The spool of one agent; safe to use from several threads."""

    def __init__(self, path: str, max_events: int, max_bytes: int, read_only: bool = False):
        """Open the file, or make it; one that is broken is set aside, and what can be read of
        it is taken over.

        :param max_events: bound of the number of events.
        :param max_bytes: bound of the size of the file, in bytes.
        :param read_only: only look; a broken one stays where it is.
        :raises SpoolUnavailable: there is no way to write there.
        :raises WrongFormat: a newer vmmonitor wrote it.
        """
        self.path = path
        #: How many events were given up because the spool was full.
        self.overflowed = 0
        #: Where broken files were put, since the start.
        self.set_aside: list[str] = []
        self._full = False
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._db = self._open_to_look() if read_only else self._open_or_replace()
        self._depth = self._count("event")
        self._refused = self._count("refused")

    # -- writing -------------------------------------------------------------------------------
    def append(
        self,
        deliveries: Sequence[Mapping[str, Any]],
        known: Mapping[str, Mapping[str, Any] | None],
    ) -> None:
        """Put events at the end, and what they changed in the agent's knowledge; both or none.

        :param deliveries: forms of deliveries (``rpc.wire.write_delivery``).
        :param known: uuid -> what is known of it now, or None to forget it.
        :raises SpoolUnavailable: it was not written (disk full, input/output error).
        """
        with self._lock:
            try:
                self._append(deliveries, known)
            except sqlite3.DatabaseError as error:
                if not _broken(error):
                    raise SpoolUnavailable(f"the spool cannot be written: {error}") from error
                self._db.close()
                self._db = self._replace(error)
                self._depth = self._count("event")
                self._append(deliveries, known)

    def _append(self, deliveries, known) -> None:
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "INSERT INTO event (event_id, action, body) VALUES (?, ?, ?)",
                [
                    (one["event_id"], one["decision"]["action"], json.dumps(one))
                    for one in deliveries
                ],
            )
            self._write_known(self._db, known)
            given_up = self._make_room(len(deliveries))
        self._depth += len(deliveries) - given_up
        self.overflowed += given_up

    @staticmethod
    def _write_known(db: sqlite3.Connection, known: Mapping[str, Mapping[str, Any] | None]):
        db.executemany(
            "DELETE FROM known WHERE uuid = ?", [(uuid,) for uuid in known if known[uuid] is None]
        )
        db.executemany(
            "INSERT OR REPLACE INTO known (uuid, body) VALUES (?, ?)",
            [(uuid, json.dumps(one)) for uuid, one in known.items() if one is not None],
        )

    def _make_room(self, added: int) -> int:
        """Give up the oldest events beyond the bounds, those that are only recorded first."""
        excess = self._depth + added - self._max_events
        if self._used_bytes() > self._max_bytes:
            excess = max(excess, added, self._depth // 100)
        if excess <= 0:
            self._full = False
            return 0
        cursor = self._db.execute(
            "DELETE FROM event WHERE sequence IN"
            " (SELECT sequence FROM event ORDER BY action = ?, sequence LIMIT ?)",
            (RECOVER, excess),
        )
        if not self._full:
            LOG.error("The spool is full: the oldest events are given up until there is room")
        self._full = True
        return cursor.rowcount

    def _used_bytes(self) -> int:
        pages, free, size = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    # -- reading -------------------------------------------------------------------------------
    def read(self, limit: int, max_bytes: int = 1024 * 1024) -> list[Entry]:
        """Return the oldest events, in order; they stay until they are settled.

        :param limit: at most so many.
        :param max_bytes: and at most about so many bytes of bodies, but at least one event.
        """
        with self._lock:
            rows = self._db.execute(
                "SELECT sequence, body FROM event ORDER BY sequence LIMIT ?", (limit,)
            ).fetchall()
        entries: list[Entry] = []
        for sequence, body in rows:
            max_bytes -= len(body)
            if entries and max_bytes < 0:
                break
            entries.append(
                Entry(sequence=sequence, body=json.loads(body) | {"sequence": sequence})
            )
        return entries

    def settle(self, entries: Iterable[Entry], refused: Mapping[int, str], now: int) -> None:
        """Forget events that the engine has answered for; set aside those that it refused.

        :param refused: sequence -> reason.
        :param now: microseconds since the epoch.
        :raises SpoolUnavailable: it was not written; the events will be sent again.
        """
        sequences = [(entry.sequence,) for entry in entries]
        with self._lock:
            try:
                self._db.execute("PRAGMA synchronous = NORMAL")
                self._settle(sequences, refused, now)
                self._db.execute("PRAGMA synchronous = FULL")
            except sqlite3.DatabaseError as error:
                raise SpoolUnavailable(f"the spool cannot be written: {error}") from error

    def _settle(self, sequences: Sequence[tuple[int]], refused: Mapping[int, str], now: int):
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "INSERT OR REPLACE INTO refused (sequence, event_id, body, reason, refused_at)"
                " SELECT sequence, event_id, body, ?, ? FROM event WHERE sequence = ?",
                [(reason, now, sequence) for sequence, reason in refused.items()],
            )
            gone = self._db.executemany("DELETE FROM event WHERE sequence = ?", sequences)
        self._depth -= gone.rowcount
        self._refused += len(refused)

    @property
    def depth(self) -> int:
        """How many events are not acknowledged yet."""
        return self._depth

    @property
    def refused_count(self) -> int:
        """How many events the engine refused."""
        return self._refused

    def known(self) -> dict[str, dict[str, Any]]:
        """Return what the agent knew last: uuid -> form."""
        with self._lock:
            rows = self._db.execute("SELECT uuid, body FROM known").fetchall()
        return {uuid: json.loads(body) for uuid, body in rows}

    def refused(self, limit: int = 1000) -> list[Refused]:
        """Return the events that were refused, oldest first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT sequence, event_id, reason, refused_at, body FROM refused"
                " ORDER BY sequence LIMIT ?",
                (limit,),
            ).fetchall()
        return [
            Refused(
                sequence=sequence,
                event_id=event_id,
                reason=reason,
                refused_at=refused_at,
                body=json.loads(body),
            )
            for sequence, event_id, reason, refused_at, body in rows
        ]

    def close(self) -> None:
        """Close the file; nothing is lost."""
        with self._lock:
            self._db.close()

    # -- opening -------------------------------------------------------------------------------
    def _count(self, table: str) -> int:
        return self._db.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]

    def _open_to_look(self) -> sqlite3.Connection:
        try:
            db = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, isolation_level=None)
            db.execute("SELECT COUNT(*) FROM event")
        except sqlite3.DatabaseError as error:
            raise SpoolUnavailable(f"the spool {self.path} cannot be read: {error}") from error
        return db

    def _open_or_replace(self) -> sqlite3.Connection:
        try:
            os.makedirs(os.path.dirname(self.path) or ".", mode=0o750, exist_ok=True)
            return _open(self.path)
        except sqlite3.DatabaseError as error:
            if not _broken(error):
                raise SpoolUnavailable(
                    f"the spool {self.path} cannot be opened: {error}"
                ) from error
            return self._replace(error)
        except OSError as error:
            raise SpoolUnavailable(f"the spool {self.path} cannot be opened: {error}") from error

    def _replace(self, error: Exception) -> sqlite3.Connection:
        """Set the broken file aside, start a new one, take over what can be read."""
        aside = f"{self.path}.broken-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
        for ending in ("", "-wal", "-shm"):
            if os.path.exists(self.path + ending):
                os.replace(self.path + ending, aside + ending)
        self.set_aside.append(aside)
        events, known = _salvage(aside)
        LOG.error(
            "The spool %s is broken (%s) and is set aside as %s; %d events and %d instances of it"
            " could still be read and are taken over",
            *(self.path, error, aside, len(events), len(known)),
        )
        db = _open(self.path)
        with db:
            db.execute("BEGIN IMMEDIATE")
            db.executemany("INSERT INTO event (event_id, action, body) VALUES (?, ?, ?)", events)
            db.executemany("INSERT INTO known (uuid, body) VALUES (?, ?)", known)
        return db


def _open(path: str) -> sqlite3.Connection:
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
    except BaseException:
        db.close()
        raise
    return db


def _create(db: sqlite3.Connection) -> None:
    with db:
        db.execute("BEGIN IMMEDIATE")
        for statement in SCHEMA.split(";"):
            db.execute(statement)
        db.execute("INSERT INTO known (uuid, body) VALUES ('', zeroblob(?))", (RESERVE,))
    db.execute("PRAGMA wal_checkpoint(FULL)")
    with db:
        db.execute("BEGIN IMMEDIATE")
        db.execute("DELETE FROM known WHERE uuid = ''")
        db.execute(f"PRAGMA user_version = {FORMAT}")


def _broken(error: Exception) -> bool:
    """Tell a broken file from one that cannot be used just now."""
    return not isinstance(error, sqlite3.OperationalError | sqlite3.ProgrammingError) or any(
        word in str(error) for word in ("malformed", "not a database", "no such table")
    )


def _salvage(path: str) -> tuple[list[tuple[str, str, str]], list[tuple[str, str]]]:
    """Read as many whole rows of a broken spool as can be read: from both ends to the damage."""
    query = "SELECT sequence, event_id, action, body FROM event ORDER BY sequence "
    found = {row[0]: row[1:] for end in ("ASC", "DESC") for row in _readable(path, query + end)}
    return (
        [found[sequence] for sequence in sorted(found)],
        _readable(path, "SELECT uuid, body FROM known"),
    )


def _readable(path: str, query: str) -> list[tuple]:
    rows = []
    try:
        db = sqlite3.connect(path, isolation_level=None)
        try:
            for row in db.execute(query):
                json.loads(row[-1])
                rows.append(row)
        finally:
            db.close()
    except (sqlite3.Error, ValueError, TypeError) as error:
        LOG.warning("Reading the broken spool ended after %d rows: %s", len(rows), error)
    return rows
