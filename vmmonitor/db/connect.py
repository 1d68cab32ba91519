# SPDX-License-Identifier: Apache-2.0
"""Make the connection pool of ``[database] connection``, with equal settings on all databases."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy
import tenacity
from oslo_config import cfg
from oslo_db import options
from oslo_db.sqlalchemy import engines, exc_filters
from sqlalchemy import event, exc, pool

from vmmonitor.model import errors

#: A URL that names no driver gets the one that the extras install, whatever SQLAlchemy prefers.
_DRIVERS = {
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
    "mariadb+pymysql": "mysql+pymysql",
    "postgresql": "postgresql+psycopg2",
}

#: A database host that vanishes without a word is noticed after these times, in seconds except
#: for tcp_user_timeout (ms). What the operator's URL says goes first. utf8mb4 is all of UTF-8.
URL_DEFAULTS: Mapping[str, Mapping[str, str]] = {
    "mysql": {
        "charset": "utf8mb4",
        "connect_timeout": "10",
        "read_timeout": "60",
        "write_timeout": "60",
    },
    "postgresql": {"connect_timeout": "10", "tcp_user_timeout": "60000"},
    "sqlite": {},
}

# READ COMMITTED, because the invariants are kept by unique keys and guarded UPDATEs, which see
# the newest row at every isolation level. REPEATABLE READ (MySQL's default) adds gap locks, thus
# deadlocks between bulk inserts, and a snapshot in which the winner of a race stays invisible.
# A lock that is not had within 5 s is given up and the transaction repeated: the default of
# MySQL (50 s) is longer than agents wait, PostgreSQL's is for ever.
SESSION_SETTINGS: Mapping[str, tuple[str, ...]] = {
    "mysql": (
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "SET SESSION innodb_lock_wait_timeout = 5",
    ),
    "postgresql": (
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "SET lock_timeout = '5s'",
    ),
    "sqlite": (
        "PRAGMA busy_timeout = 30000",
        "PRAGMA journal_mode = WAL",
        "PRAGMA foreign_keys = ON",
    ),
}

#: SQLite does not wait, whatever busy_timeout says, where another switches a new file to WAL.
PATIENTLY = tenacity.Retrying(
    retry=tenacity.retry_if_exception_message(match="database is locked"),
    stop=tenacity.stop_after_delay(5),
    wait=tenacity.wait_random(0.005, 0.05),
    reraise=True,
)

#: Marks a connection that is going to write, for SQLite's sake.
WRITER = "vmmonitor_writer"

#: Connections besides those of the recovery workers: ingest, scans, leases, the clock.
OTHER_THREADS = 16


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register oslo.db's ``[database]`` options on ``conf``; ``connection`` has no default."""
    conf.register_opts(options.database_opts, group="database")


def url(conf: cfg.ConfigOpts) -> sqlalchemy.URL:
    """Return the database's address, completed with driver and time limits.

    :raises vmmonitor.model.errors.VmmonitorError: it is missing, broken, or of a database that
        vmmonitor does not support.
    """
    if not conf.database.connection:
        raise errors.VmmonitorError("[database] connection is not set")
    try:
        given = sqlalchemy.make_url(conf.database.connection)
    except exc.ArgumentError:
        # The URL may hold a password: it is not repeated.
        raise errors.VmmonitorError("[database] connection is not a database URL") from None
    given = given.set(drivername=_DRIVERS.get(given.drivername, given.drivername))
    backend = given.get_backend_name()
    if backend not in URL_DEFAULTS:
        raise errors.VmmonitorError(
            f"[database] connection names {backend!r}; supported are: {', '.join(URL_DEFAULTS)}"
        )
    return given.set(query={**URL_DEFAULTS[backend], **given.query})


def engine(conf: cfg.ConfigOpts) -> sqlalchemy.Engine:
    """Build the pool; no connection is made yet.

    The pool keeps at least ``[database] max_pool_size`` connections, and one for each recovery
    worker if that is more; they are opened when they are needed.

    :raises vmmonitor.model.errors.VmmonitorError: the address or its driver is unusable.
    """
    where = url(conf)
    backend = where.get_backend_name()
    try:
        built = _sqlite(where) if backend == "sqlite" else _server(conf, where)
    except (exc.ArgumentError, ImportError) as error:
        raise errors.VmmonitorError(f"[database] connection cannot be used: {error}") from error
    # Values stay out of error texts: they are large, not ours to log, and oslo.db would look for
    # its patterns ("Deadlock found") in what an agent sent.
    built.hide_parameters = True
    settings = SESSION_SETTINGS[backend]
    if backend == "sqlite":
        settings += (f"PRAGMA synchronous = {'FULL' if conf.database.sqlite_synchronous else 0}",)
    _on_connect(built, settings)
    return built


def _server(conf: cfg.ConfigOpts, where: sqlalchemy.URL) -> sqlalchemy.Engine:
    database = conf.database
    built: sqlalchemy.Engine = engines.create_engine(
        where,
        mysql_sql_mode=database.mysql_sql_mode,
        mysql_wsrep_sync_wait=database.mysql_wsrep_sync_wait,
        connection_recycle_time=database.connection_recycle_time,
        connection_debug=database.connection_debug,
        connection_trace=database.connection_trace,
        connection_parameters=database.connection_parameters,
        max_pool_size=max(database.max_pool_size, conf.recovery.workers + OTHER_THREADS),
        max_overflow=database.max_overflow,
        pool_timeout=database.pool_timeout,
        max_retries=0,
    )
    return built


def _sqlite(where: sqlalchemy.URL) -> sqlalchemy.Engine:
    """Build SQLite's pool, which oslo.db would not: it opens a file anew for each transaction,
    and each time that the last connection closes SQLite writes its whole log back."""
    limits: dict[str, Any] = {"pool_size": 16, "max_overflow": 240}
    if not where.database or where.database == ":memory:":
        limits = {"pool_size": 1, "max_overflow": 0}
    built = sqlalchemy.create_engine(
        where, poolclass=pool.QueuePool, connect_args={"check_same_thread": False}, **limits
    )
    exc_filters.register_engine(built)

    @event.listens_for(built, "connect")
    def begin_nothing(connection: Any, record: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(built, "begin")
    def begin(connection: sqlalchemy.Connection) -> None:
        # A transaction that reads first and writes later fails at once if another one wrote in
        # between; one that takes the write lock at its start waits for it instead.
        writes = connection.get_execution_options().get(WRITER, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return built


def _on_connect(built: sqlalchemy.Engine, statements: tuple[str, ...]) -> None:
    @event.listens_for(built, "connect")
    def settle(connection: Any, record: Any) -> None:
        cursor = connection.cursor()
        for statement in statements:
            PATIENTLY.copy()(cursor.execute, statement)
        cursor.close()
        connection.commit()
