# SPDX-License-Identifier: Apache-2.0
"""Transactions: how they begin, end, fail and are repeated."""

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

#: What the functions of this room take first.
Transaction = sqlalchemy.Connection

Given = ParamSpec("Given")
Result = TypeVar("Result")

#: How the database tells its clock: UTC microseconds, whatever the session's time zone is.
CLOCKS = {
    "mysql": "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))",
    "postgresql": "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)",
}

#: Troubles of the moment: somebody else's lock, a lost connection, a full pool or disk.
PASSING = (
    exception.DBDeadlock,
    exception.DBConnectionError,
    exc.OperationalError,
    exc.TimeoutError,
)

#: A transaction is tried this often, and not once more after so many seconds.
TRIES = 8
PATIENCE = 6.0


#: Option of a connection: the list of its transaction's changes; None: they are not gathered.
CHANGES = "vmmonitor_changes"


class ChangeSink(Protocol):
    """The receiver of the changes of each transaction."""

    def write(self, tx: Transaction, changes: Sequence[Change]) -> None:
        """Store, at the end of the transaction, the notifications of its changes."""

    def written(self) -> None:
        """Handle the commit of such a transaction; called in its thread, must return at once."""


class Database:
    """The database of one process. After a fork, the child builds its own."""

    def __init__(self, conf: cfg.ConfigOpts):
        """Read ``[database]``; connect to nothing yet.

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
        # SQLite has one writer at a time; its own waiting is a poll, up to 100 ms apart.
        self._turn: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
        self.now = local_now
        if self.engine.dialect.name == "sqlite":
            self._turn = threading.RLock()
        else:
            self.now = clock.Clock(self._told_time).now

    @contextlib.contextmanager
    def reader(self) -> Iterator[Transaction]:
        """Give a transaction that only reads, and waits for no lock.

        :raises vmmonitor.model.errors.Retriable: the database is away or busy.
        """
        options = {"postgresql_readonly": True} if self._is("postgresql") else {}
        with translated(), self._connected().execution_options(**options) as tx, tx.begin():
            yield tx

    @contextlib.contextmanager
    def writer(self) -> Iterator[Transaction]:
        """Give a transaction, committed at the end, rolled back if anything was raised.

        After an ``errors.Conflict`` the transaction is spent: let it pass through the ``with``,
        and look again in a new one.

        :raises vmmonitor.model.errors.Retriable: the database is away or busy, or a deadlock
            was resolved against this transaction. If the connection was lost in the middle of
            the commit, nobody knows whether it took effect.
        """
        outbox, gathered = self.outbox, list[Change]()
        options = {connect.WRITER: True, CHANGES: gathered if outbox else None}
        with (
            self._turn,
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
        """Call ``function(tx, ...)`` in a writer transaction, and again if its time was bad.

        It must be fit for being called again: what an earlier try did in the database is undone
        (except after a connection lost during the commit), what it did elsewhere is not.

        :raises vmmonitor.model.errors.Retriable: every try failed.
        :raises vmmonitor.model.errors.Conflict: at once, if the function did.
        """

        def once() -> Result:
            with self.writer() as tx:
                return function(tx, *args, **kwargs)

        return self._repeat.copy()(once)

    def dispose(self) -> None:
        """Close the connections that nobody uses at the moment."""
        self.engine.dispose()

    def _is(self, name: str) -> bool:
        return self.engine.dialect.name == name

    def _connected(self) -> sqlalchemy.Connection:
        """Take a connection from the pool; whatever prevents that may pass."""
        try:
            return self.engine.connect()
        except (exception.DBError, exc.SQLAlchemyError) as error:
            raise errors.Retriable(f"The database cannot be reached: {told(error)}") from error

    def _told_time(self) -> int:
        with self.reader() as tx:
            return int(tx.execute(sqlalchemy.text(CLOCKS[tx.dialect.name])).scalar_one())


def local_now() -> int:
    """Return this machine's clock, which is SQLite's too; microseconds since the epoch."""
    return time.time_ns() // 1000


def told(error: BaseException) -> str:
    """Return what the database itself said, in one line, without the statement."""
    cause = getattr(error, "inner_exception", None) or error
    cause = getattr(cause, "orig", None) or cause
    return " ".join(str(cause).split())


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn the libraries' passing troubles into ``errors.Retriable``."""
    try:
        yield
    except PASSING as error:
        raise errors.Retriable(f"The database did not do it: {told(error)}") from error


@contextlib.contextmanager
def unique(message: str) -> Iterator[None]:
    """Turn a violated unique key into a Conflict.

    :param message: what the Conflict says.
    :raises vmmonitor.model.errors.Conflict: the transaction is spent.
    """
    try:
        yield
    except exception.DBDuplicateEntry as error:
        raise errors.Conflict(message) from error
