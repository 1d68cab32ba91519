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

#: Drivers of URLs that do not name one. The extras of the package install them; the defaults of
#: SQLAlchemy may differ.
_DRIVERS = {
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
    "mariadb+pymysql": "mysql+pymysql",
    "postgresql": "postgresql+psycopg2",
}

#: Timeouts that detect an unreachable database host, in seconds; tcp_user_timeout is in
#: milliseconds. Parameters of the configured URL take precedence. utf8mb4 is the full UTF-8.
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

# READ COMMITTED is sufficient: the invariants depend on unique keys and guarded UPDATEs, which see
# the newest row at every isolation level. REPEATABLE READ (MySQL's default) adds gap locks, which
# cause deadlocks between bulk inserts, and a snapshot that hides the winner of a race.
# After 5 s without a lock, the transaction fails and is repeated. The default of MySQL (50 s) is
# longer than the timeout of agents, and PostgreSQL waits indefinitely.
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

#: SQLite ignores busy_timeout while another connection switches a new file to WAL.
PATIENTLY = tenacity.Retrying(
    retry=tenacity.retry_if_exception_message(match="database is locked"),
    stop=tenacity.stop_after_delay(5),
    wait=tenacity.wait_random(0.005, 0.05),
    reraise=True,
)

#: Execution option of a connection that will write; used for SQLite only.
WRITER = "vmmonitor_writer"

#: Number of connections for threads other than the recovery workers: ingest, scans, leases, the
#: clock.
OTHER_THREADS = 16


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register oslo.db's ``[database]`` options on ``conf``; ``connection`` has no default."""
    conf.register_opts(options.database_opts, group="database")


def url(conf: cfg.ConfigOpts) -> sqlalchemy.URL:
    """Return the database's URL, completed with the driver and timeouts.

    :raises vmmonitor.model.errors.VmmonitorError: it is missing or invalid, or vmmonitor does not
        support the database.
    """
    if not conf.database.connection:
        raise errors.VmmonitorError("[database] connection is not set")
    try:
        given = sqlalchemy.make_url(conf.database.connection)
    except exc.ArgumentError:
        # The message does not contain the URL, which may contain a password.
        raise errors.VmmonitorError("[database] connection is not a database URL") from None
    given = given.set(drivername=_DRIVERS.get(given.drivername, given.drivername))
    backend = given.get_backend_name()
    if backend not in URL_DEFAULTS:
        raise errors.VmmonitorError(
            f"[database] connection names {backend!r}; supported are: {', '.join(URL_DEFAULTS)}"
        )
    return given.set(query={**URL_DEFAULTS[backend], **given.query})


def engine(conf: cfg.ConfigOpts) -> sqlalchemy.Engine:
    """Build the connection pool, without connecting.

    On a database server, the pool keeps up to ``[database] max_pool_size`` connections, or one per
    recovery worker plus OTHER_THREADS if that is more. Connections are opened when needed.

    :raises vmmonitor.model.errors.VmmonitorError: the URL or its driver cannot be used.
    """
    where = url(conf)
    backend = where.get_backend_name()
    try:
        built = _sqlite(where) if backend == "sqlite" else _server(conf, where)
    except (exc.ArgumentError, ImportError) as error:
        raise errors.VmmonitorError(f"[database] connection cannot be used: {error}") from error
    # Error texts do not contain parameters: they are large, may be confidential, and oslo.db would
    # search text of an agent for its patterns ("Deadlock found").
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
    """Build a pool for SQLite.

    oslo.db would open the file again for each transaction, and SQLite writes its whole log back
    each time that the last connection closes.
    """
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
        # A transaction that reads before it writes fails at once if another one wrote meanwhile.
        # With the write lock from its start, the transaction waits instead.
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
