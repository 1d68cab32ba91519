# SPDX-License-Identifier: Apache-2.0
"""Run transactions: begin, commit, convert their errors and repeat them."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import sqlalchemy
import tenacity
from oslo_config import cfg
from oslo_db import exception
from sqlalchemy import exc

from vmmonitor.db import clock, connect
from vmmonitor.model import errors
from vmmonitor.model.notification import Change

register_opts = connect.register_opts

#: The first argument of the functions of this package.
Transaction = sqlalchemy.Connection

Given = ParamSpec("Given")
Result = TypeVar("Result")

#: Query of the database's clock: microseconds in UTC, independent of the session's time zone.
CLOCKS = {
    "mysql": "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))",
    "postgresql": "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)",
}

#: Temporary errors: a lock, a lost connection, a full pool or disk.
PASSING = (
    exception.DBDeadlock,
    exception.DBConnectionError,
    exc.OperationalError,
    exc.TimeoutError,
)

#: PostgreSQL's code of an error during a failover.
READ_ONLY = "25006"

#: Maximum number of attempts of a transaction, and maximum time for retries, in seconds.
TRIES = 8
PATIENCE = 6.0


#: Execution option of a connection: the list of the changes of its transaction; None if changes
#: are not recorded.
CHANGES = "vmmonitor_changes"


class ChangeSink(Protocol):
    """The receiver of the changes of each transaction."""

    def write(self, tx: Transaction, changes: Sequence[Change]) -> None:
        """Store, at the end of the transaction, the notifications of its changes."""

    def written(self) -> None:
        """Handle the commit of such a transaction; called in its thread, must return at once."""


class Database:
    """The database of one process. After a fork, the child process must create its own."""

    def __init__(self, conf: cfg.ConfigOpts):
        """Read ``[database]``, without connecting.

        :param conf: the service's configuration; oslo.db's options are registered on it.
        :raises vmmonitor.model.errors.VmmonitorError: ``[database] connection`` is unusable.
        """
        register_opts(conf)
        self.engine = connect.engine(conf)
        #: Receives the changes of each transaction, in that transaction.
        self.outbox: ChangeSink | None = None
        self._repeat = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(errors.Retriable),
            stop=tenacity.stop_after_attempt(TRIES) | tenacity.stop_after_delay(PATIENCE),
            wait=tenacity.wait_random_exponential(multiplier=0.05, max=1),
            reraise=True,
        )
        # SQLite has one writer at a time, and polls for its lock up to every 100 ms.
        self._writer_lock: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
        self.now = local_now
        if self.engine.dialect.name == "sqlite":
            self._writer_lock = threading.RLock()
        else:
            self.now = clock.Clock(self._told_time).now

    @contextlib.contextmanager
    def reader(self) -> Iterator[Transaction]:
        """Yield a read-only transaction, which does not wait for locks.

        :raises vmmonitor.model.errors.Retriable: the database is unreachable or busy.
        """
        options = {"postgresql_readonly": True} if self._is("postgresql") else {}
        with translated(), self._connected().execution_options(**options) as tx, tx.begin():
            yield tx

    @contextlib.contextmanager
    def writer(self) -> Iterator[Transaction]:
        """Yield a transaction that is committed at the end, or rolled back after an exception.

        The transaction cannot be used after an ``errors.Conflict``: leave the ``with`` block with
        it, and read again in a new transaction.

        :raises vmmonitor.model.errors.Retriable: the database is unreachable or busy, or a
            deadlock was resolved against this transaction. If the connection was lost during the
            commit, it is unknown whether the transaction took effect.
        """
        outbox, gathered = self.outbox, list[Change]()
        options = {connect.WRITER: True, CHANGES: gathered if outbox else None}
        with (
            self._writer_lock,
            translated(),
            self._connected().execution_options(**options) as tx,
            tx.begin(),
        ):
            yield tx
            if outbox and gathered:
                outbox.write(tx, gathered)
        if outbox and gathered:
            outbox.written()

    def run(
        self,
        function: Callable[Concatenate[Transaction, Given], Result],
        *args: Given.args,
        **kwargs: Given.kwargs,
    ) -> Result:
        """Call ``function(tx, ...)`` in a writer transaction; repeat it after temporary errors.

        The function must be repeatable: its changes in the database are rolled back (except after
        a connection lost during the commit), its other effects are not.

        :raises vmmonitor.model.errors.Retriable: every attempt failed.
        :raises vmmonitor.model.errors.Conflict: immediately, if the function raises it.
        """

        def once() -> Result:
            with self.writer() as tx:
                return function(tx, *args, **kwargs)

        return self._repeat.copy()(once)

    def dispose(self) -> None:
        """Close the idle connections."""
        self.engine.dispose()

    def _is(self, name: str) -> bool:
        return self.engine.dialect.name == name

    def _connected(self) -> sqlalchemy.Connection:
        """Take a connection from the pool; each error is temporary."""
        try:
            return self.engine.connect()
        except (exception.DBError, exc.SQLAlchemyError) as error:
            raise errors.Retriable(f"The database cannot be reached: {told(error)}") from error

    def _told_time(self) -> int:
        with self.reader() as tx:
            return int(tx.execute(sqlalchemy.text(CLOCKS[tx.dialect.name])).scalar_one())


def local_now() -> int:
    """Return the clock of this host, in microseconds since the epoch."""
    return time.time_ns() // 1000


def told(error: BaseException) -> str:
    """Return the error message of the database in one line, without the statement."""
    cause = getattr(error, "inner_exception", None) or error
    cause = getattr(cause, "orig", None) or cause
    return " ".join(str(cause).split())


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Convert temporary errors of the libraries into ``errors.Retriable``."""
    try:
        yield
    except PASSING as error:
        raise errors.Retriable(f"The database aborted the transaction: {told(error)}") from error
    except (exception.DBError, exc.DBAPIError) as error:
        if not _is_read_only(error):
            raise
        raise errors.Retriable(f"The database is read-only: {told(error)}") from error


def _is_read_only(error: BaseException) -> bool:
    """Return whether PostgreSQL is a standby or was made read-only, which it reports as an
    internal error."""
    cause = getattr(error, "inner_exception", None) or error
    return getattr(getattr(cause, "orig", None) or cause, "pgcode", None) == READ_ONLY


@contextlib.contextmanager
def unique(message: str) -> Iterator[None]:
    """Convert a violation of a unique key into a Conflict.

    :param message: the message of the Conflict.
    :raises vmmonitor.model.errors.Conflict: the transaction cannot be used any longer.
    """
    try:
        yield
    except exception.DBDuplicateEntry as error:
        raise errors.Conflict(message) from error
