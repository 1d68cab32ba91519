# SPDX-License-Identifier: Apache-2.0
"""The agent's durable, ordered, bounded outbox, and beside it what the agent last knew.

One SQLite file in WAL mode. An event and what it changes in the agent's knowledge are one
transaction, so that after any death both are there or neither is: nothing is told twice, nothing
is left out. An append is on the disk (fsync) when it returns; forgetting what the engine has
acknowledged is not worth an fsync, because a batch that is sent again is stored once.

How the file is made, and what is had of one that is damaged, stands in ``spool_file.py``.
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


class SpoolUnavailable(Retriable):
    """The spool cannot be written"""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpooledEvent:
    """One spooled event: its place in the order, and its form."""

    sequence: int
    body: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class RefusedEvent:
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
        self._damage: Exception | None = None
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._read_only = read_only
        self._db = self._open_to_look() if read_only else self._open_or_replace()
        self._depth, self._refused = self._locked(self._counts)

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
        self._locked(lambda: self._append(deliveries, known))

    def _locked(self, use: Callable[[], Found]) -> Found:
        """Use the file, alone; if it turns out to be broken, use what could be saved of it.

        :raises SpoolUnavailable: it cannot be used now.
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
            (INCIDENT, excess),
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
    def read(self, limit: int, max_bytes: int = 1024 * 1024) -> list[SpooledEvent]:
        """Return the oldest events, in order; they stay until they are settled.

        :param limit: at most so many.
        :param max_bytes: and at most about so many bytes of bodies, but at least one event.
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
                SpooledEvent(sequence=sequence, body=_object(body) | {"sequence": sequence})
            )
        return entries

    def settle(
        self, entries: Iterable[SpooledEvent], refused: Mapping[int, str], now: int
    ) -> None:
        """Forget events that the engine has answered for; set aside those that it refused.

        :param refused: sequence -> reason.
        :param now: microseconds since the epoch.
        :raises SpoolUnavailable: it was not written; the events will be sent again.
        """
        # By both: where the file had to be replaced meanwhile, a number may mean another event.
        settled = [(entry.sequence, entry.body["event_id"]) for entry in entries]
        self._locked(lambda: self._settle(settled, refused, now))

    def _settle(self, settled: Sequence[tuple[int, str]], refused: Mapping[int, str], now: int):
        set_aside = [(refused[one[0]], now, *one) for one in settled if one[0] in refused]
        with self._no_fsync(), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            kept = self._db.executemany(
                "INSERT OR REPLACE INTO refused (sequence, event_id, body, reason, refused_at)"
                " SELECT sequence, event_id, body, ?, ? FROM event"
                " WHERE sequence = ? AND event_id = ?",
                set_aside,
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
        """How many events are not acknowledged yet."""
        return self._depth

    @property
    def refused_count(self) -> int:
        """How many events the engine refused."""
        return self._refused

    def known(self) -> dict[str, dict[str, Any]]:
        """Return what the agent knew last: uuid -> form."""
        return self._locked(
            lambda: {
                uuid: _object(body)
                for uuid, body in self._db.execute("SELECT uuid, body FROM known")
            }
        )

    def refused(self, limit: int = 1000) -> list[RefusedEvent]:
        """Return the events that were refused, oldest first."""
        return self._locked(lambda: self._read_refused(limit))

    def _read_refused(self, limit: int) -> list[RefusedEvent]:
        return [
            RefusedEvent(
                sequence=sequence,
                event_id=event_id,
                reason=reason,
                refused_at=refused_at,
                body=_object(body),
            )
            for sequence, event_id, reason, refused_at, body in self._db.execute(
                "SELECT sequence, event_id, reason, refused_at, body FROM refused"
                " ORDER BY sequence LIMIT ?",
                (limit,),
            )
        ]

    def close(self) -> None:
        """Close the file; nothing is lost."""
        with self._lock:
            self._db.close()

    # -- opening -------------------------------------------------------------------------------
    def _counts(self) -> tuple[int, int]:
        """Return how many events wait, and how many are refused."""
        return self._db.execute(
            "SELECT (SELECT COUNT(*) FROM event), (SELECT COUNT(*) FROM refused)"
        ).fetchone()

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
        """Write what can be read to a new file, and exchange the two.

        If the disk is full, say, the broken file is still there to be tried again.
        """
        found = spool_file.readable(self.path)
        new = f"{self.path}.new"
        for ending in spool_file.ENDINGS:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new + ending)
        db = spool_file.open_file(new)
        try:
            spool_file.write(db, found)
        finally:
            db.close()
        aside = f"{self.path}.broken-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
        for ending in spool_file.ENDINGS:
            if os.path.exists(self.path + ending):
                os.replace(self.path + ending, aside + ending)
        os.replace(new, self.path)
        self.set_aside.append(aside)
        LOG.error(
            "The spool %s is broken (%s) and is set aside as %s; %d events and %d instances of it"
            " could still be read and are taken over",
            *(self.path, error, aside, len(found["event"]), len(found["known"])),
        )
        return spool_file.open_file(self.path)


def _object(body: Any) -> dict[str, Any]:
    try:
        return dict(json.loads(body))
    except (ValueError, TypeError) as error:
        raise sqlite3.DatabaseError(f"malformed row: {error}") from error
