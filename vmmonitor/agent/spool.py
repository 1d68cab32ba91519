# SPDX-License-Identifier: Apache-2.0
"""The spool: the durable, ordered and bounded outbox of the agent, and its last known states.

One SQLite file in WAL mode. An event and the state change that it causes are written in one
transaction: after a crash either both are there or neither, so that no event is sent twice and
none is lost. ``append`` returns when the data is on the disk (fsync). Removing acknowledged
events does not need an fsync, because the engine ignores a batch that it has already stored.

A broken file is renamed, and its readable content is copied to a new one.
"""

import contextlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from oslo_log import log

from vmmonitor.agent import spool_file
from vmmonitor.model.errors import Retriable
from vmmonitor.model.event import INCIDENT

LOG = log.getLogger(__name__)

Found = TypeVar("Found")

#: Maximum number of stored fence tokens, far above the instances of one host.
MAX_FENCES = 10_000


class SpoolUnavailable(Retriable):
    """The spool cannot be written"""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpooledEvent:
    """An event in the spool.

    :param sequence: position in the order of the spool.
    :param body: form of the delivery.
    """

    sequence: int
    body: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class RefusedEvent:
    """An event that the engine refused, in quarantine until an operator examines it."""

    sequence: int
    event_id: str
    reason: str
    refused_at: int
    body: dict[str, Any]


class Spool:
    """The spool of one agent. Thread-safe."""

    def __init__(self, path: str, max_events: int, max_bytes: int, read_only: bool = False):
        """Open or create the file; recover the readable content of a broken one.

        :param max_events: maximum number of events.
        :param max_bytes: maximum size of the file.
        :param read_only: never write; a broken file stays in place.
        :raises SpoolUnavailable: the file cannot be opened.
        :raises WrongFormat: a newer version of vmmonitor wrote it.
        """
        self.path = path
        #: Number of events that were dropped because the spool was full.
        self.overflowed = 0
        #: New paths of the broken files since the start.
        self.set_aside: list[str] = []
        self._full = False
        self._damage: Exception | None = None
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._read_only = read_only
        self._db = self._open_read_only() if read_only else self._open_or_replace()
        self._depth, self._refused = self._locked(self._counts)

    # -- writing -------------------------------------------------------------------------------
    def append(
        self,
        deliveries: Sequence[Mapping[str, Any]],
        known: Mapping[str, Mapping[str, Any] | None],
    ) -> None:
        """Append events and store changed states, in one transaction.

        :param deliveries: forms of deliveries (``rpc.event_wire.write_delivery``).
        :param known: UUID -> last known state of the instance; None to forget it.
        :raises SpoolUnavailable: nothing was written (disk full, input/output error).
        """
        self._locked(lambda: self._append(deliveries, known))

    def _locked(self, use: Callable[[], Found]) -> Found:
        """Use the file under the lock; if it is broken, recover it and try again.

        :raises SpoolUnavailable: the file cannot be used now.
        """
        with self._lock:
            try:
                try:
                    return use()
                except sqlite3.DatabaseError as error:
                    if spool_file.is_broken(error):
                        self._damage = error
                    if self._read_only or not self._damage:
                        raise
                    self._db.close()
                    self._db = self._replace(self._damage)
                    self._damage = None
                    self._depth, self._refused = self._counts()
                    return use()
            except (sqlite3.Error, OSError) as error:
                raise SpoolUnavailable(f"the spool {self.path} cannot be used: {error}") from error

    def _append(self, deliveries, known) -> None:
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "INSERT INTO event (event_id, action, body) VALUES (?, ?, ?)",
                [
                    (body["event_id"], body["decision"]["action"], json.dumps(body))
                    for body in deliveries
                ],
            )
            self._write_known(self._db, known)
            dropped = self._make_room(len(deliveries))
        self._depth += len(deliveries) - dropped
        self.overflowed += dropped

    @staticmethod
    def _write_known(db: sqlite3.Connection, known: Mapping[str, Mapping[str, Any] | None]):
        db.executemany(
            "DELETE FROM known WHERE uuid = ?", [(uuid,) for uuid in known if known[uuid] is None]
        )
        db.executemany(
            "INSERT OR REPLACE INTO known (uuid, body) VALUES (?, ?)",
            [(uuid, json.dumps(body)) for uuid, body in known.items() if body is not None],
        )

    def _make_room(self, added: int) -> int:
        """Drop the oldest events beyond the bounds, recorded ones first; return their number."""
        excess = self._depth + added - self._max_events
        if self._used_bytes() > self._max_bytes:
            excess = max(excess, added, self._depth // 100)
        if excess <= 0:
            self._full = False
            return 0
        cursor = self._db.execute(
            "DELETE FROM event WHERE sequence IN"
            " (SELECT sequence FROM event ORDER BY action = ?, sequence LIMIT ?)",
            (INCIDENT, excess),
        )
        if not self._full:
            LOG.error("The spool %s is full: dropping the oldest events", self.path)
        self._full = True
        return cursor.rowcount

    def _used_bytes(self) -> int:
        pages, free, size = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    # -- reading -------------------------------------------------------------------------------
    def read(self, limit: int, max_bytes: int = 1024 * 1024) -> list[SpooledEvent]:
        """Return the oldest events, in order; they stay in the spool until ``settle``.

        :param limit: maximum number of events.
        :param max_bytes: maximum size of their bodies; one event is always returned.
        """
        return self._locked(lambda: self._read(limit, max_bytes))

    def _read(self, limit: int, max_bytes: int) -> list[SpooledEvent]:
        entries: list[SpooledEvent] = []
        for sequence, body in self._db.execute(
            "SELECT sequence, body FROM event ORDER BY sequence LIMIT ?", (limit,)
        ):
            max_bytes -= len(body)
            if entries and max_bytes < 0:
                break
            entries.append(
                SpooledEvent(sequence=sequence, body=_parse_object(body) | {"sequence": sequence})
            )
        return entries

    def settle(
        self, entries: Iterable[SpooledEvent], refused: Mapping[int, str], now: int
    ) -> None:
        """Remove acknowledged events; move refused ones to quarantine.

        :param refused: sequence -> reason.
        :param now: microseconds since the epoch.
        :raises SpoolUnavailable: nothing was written; the events will be sent again.
        """
        # By sequence and id: a recovered file may give the sequence to another event.
        settled = [(entry.sequence, entry.body["event_id"]) for entry in entries]
        self._locked(lambda: self._settle(settled, refused, now))

    def _settle(self, settled: Sequence[tuple[int, str]], refused: Mapping[int, str], now: int):
        quarantined = [
            (refused[sequence], now, sequence, event_id)
            for sequence, event_id in settled
            if sequence in refused
        ]
        with self._no_fsync(), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            kept = self._db.executemany(
                "INSERT OR REPLACE INTO refused (sequence, event_id, body, reason, refused_at)"
                " SELECT sequence, event_id, body, ?, ? FROM event"
                " WHERE sequence = ? AND event_id = ?",
                quarantined,
            )
            gone = self._db.executemany(
                "DELETE FROM event WHERE sequence = ? AND event_id = ?", settled
            )
        self._depth -= gone.rowcount
        self._refused += kept.rowcount

    @contextlib.contextmanager
    def _no_fsync(self) -> Iterator[None]:
        self._db.execute("PRAGMA synchronous = NORMAL")
        try:
            yield
        finally:
            self._db.execute("PRAGMA synchronous = FULL")

    @property
    def depth(self) -> int:
        """The number of events without a receipt."""
        return self._depth

    @property
    def refused_count(self) -> int:
        """The number of events in quarantine."""
        return self._refused

    def known(self) -> dict[str, dict[str, Any]]:
        """Return the last known states: UUID -> form."""
        return self._locked(
            lambda: {
                uuid: _parse_object(body)
                for uuid, body in self._db.execute("SELECT uuid, body FROM known")
            }
        )

    def fences(self) -> dict[str, int]:
        """Return the highest accepted fence tokens: UUID -> token."""
        return self._locked(
            lambda: {
                uuid: int(token)
                for uuid, token in self._db.execute("SELECT uuid, token FROM fence")
            }
        )

    def store_fence(self, instance_uuid: str, token: int, now: int) -> None:
        """Store the highest accepted fence token of an instance; forget the oldest beyond a limit.

        :param now: microseconds since the epoch.
        :raises SpoolUnavailable: nothing was written.
        """
        self._locked(lambda: self._store_fence(instance_uuid, token, now))

    def _store_fence(self, instance_uuid: str, token: int, now: int) -> None:
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(
                "INSERT OR REPLACE INTO fence (uuid, accepted_at, token) VALUES (?, ?, ?)",
                (instance_uuid, now, str(token)),
            )
            self._db.execute(
                "DELETE FROM fence WHERE uuid IN"
                " (SELECT uuid FROM fence ORDER BY accepted_at DESC LIMIT -1 OFFSET ?)",
                (MAX_FENCES,),
            )

    def refused(self, limit: int = 1000) -> list[RefusedEvent]:
        """Return the events in quarantine, oldest first."""
        return self._locked(lambda: self._read_refused(limit))

    def _read_refused(self, limit: int) -> list[RefusedEvent]:
        return [
            RefusedEvent(
                sequence=sequence,
                event_id=event_id,
                reason=reason,
                refused_at=refused_at,
                body=_parse_object(body),
            )
            for sequence, event_id, reason, refused_at, body in self._db.execute(
                "SELECT sequence, event_id, reason, refused_at, body FROM refused"
                " ORDER BY sequence LIMIT ?",
                (limit,),
            )
        ]

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    # -- opening -------------------------------------------------------------------------------
    def _counts(self) -> tuple[int, int]:
        """Return the number of events without a receipt, and of those in quarantine."""
        return self._db.execute(
            "SELECT (SELECT COUNT(*) FROM event), (SELECT COUNT(*) FROM refused)"
        ).fetchone()

    def _open_read_only(self) -> sqlite3.Connection:
        try:
            db = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, isolation_level=None)
            db.execute("SELECT COUNT(*) FROM event")
        except sqlite3.DatabaseError as error:
            raise SpoolUnavailable(f"the spool {self.path} cannot be read: {error}") from error
        return db

    def _open_or_replace(self) -> sqlite3.Connection:
        try:
            os.makedirs(os.path.dirname(self.path) or ".", mode=0o750, exist_ok=True)
            return spool_file.open_file(self.path)
        except sqlite3.DatabaseError as error:
            if not spool_file.is_broken(error):
                raise SpoolUnavailable(
                    f"the spool {self.path} cannot be opened: {error}"
                ) from error
            damage = error
        except OSError as error:
            raise SpoolUnavailable(f"the spool {self.path} cannot be opened: {error}") from error
        try:
            return self._replace(damage)
        except (sqlite3.Error, OSError) as error:
            raise SpoolUnavailable(
                f"the broken spool {self.path} cannot be replaced: {error}"
            ) from error

    def _replace(self, error: Exception) -> sqlite3.Connection:
        """Copy the readable content of the broken file to a new one, and exchange the two.

        The broken file stays in place until the copy is complete, so that a failure (a full disk)
        loses nothing.
        """
        found = spool_file.read_rows(self.path)
        new = f"{self.path}.new"
        for suffix in spool_file.FILE_SUFFIXES:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new + suffix)
        db = spool_file.open_file(new)
        try:
            spool_file.write_rows(db, found)
        finally:
            db.close()
        aside = f"{self.path}.broken-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
        for suffix in spool_file.FILE_SUFFIXES:
            if os.path.exists(self.path + suffix):
                os.replace(self.path + suffix, aside + suffix)
        os.replace(new, self.path)
        self.set_aside.append(aside)
        LOG.error(
            "The spool %s is broken (%s) and was renamed to %s; recovered %d events and %d"
            " instances",
            self.path,
            error,
            aside,
            len(found["event"]),
            len(found["known"]),
        )
        return spool_file.open_file(self.path)


def _parse_object(body: Any) -> dict[str, Any]:
    try:
        return dict(json.loads(body))
    except (ValueError, TypeError) as error:
        raise sqlite3.DatabaseError(f"malformed row: {error}") from error
