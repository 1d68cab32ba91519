# SPDX-License-Identifier: Apache-2.0
"""Read and upgrade the version of the tables.

Versions only rise. A downgrade would delete data; restore a backup instead.
"""

import contextlib
import logging
from collections.abc import Iterator

import sqlalchemy as sa
from alembic import command, config, util
from alembic.runtime import migration
from alembic.script import ScriptDirectory
from oslo_db import exception
from sqlalchemy import exc

from vmmonitor.db import session
from vmmonitor.db.session import Database, Transaction
from vmmonitor.model import errors

LOG = logging.getLogger(__name__)

#: Name, number (for PostgreSQL) and timeout of the lock that lets one ``db sync`` run at a time.
LOCK = "vmmonitor_db_sync"
LOCK_NUMBER = 1_586_915_869
LOCK_SECONDS = 600


class SchemaError(errors.VmmonitorError):
    """The tables of the database do not match this version of vmmonitor"""


def head() -> str:
    """Return the version that this code needs."""
    found = ScriptDirectory.from_config(_config()).get_current_head()
    assert found is not None
    return found


def version(database: Database) -> str | None:
    """Return the version of the database; None if it does not have vmmonitor's tables.

    :raises vmmonitor.model.errors.Retriable: the database is unreachable or busy.
    """
    with converted_errors(), database.reader() as tx:
        return migration.MigrationContext.configure(tx).get_current_revision()


def sync(database: Database, revision: str = "head") -> str:
    """Upgrade the tables to a version, if they do not have it already.

    :param revision: the version; ``head`` is the newest.
    :return: the version of the database afterwards.
    :raises SchemaError: the version does not exist, is older than that of the database, or the
        upgrade failed.
    :raises vmmonitor.model.errors.Retriable: the database is unreachable or busy.
    """
    with database.writer() as tx, converted_errors(), _locked(tx):
        context = migration.MigrationContext.configure(tx)
        _refuse_downgrade(context.get_current_revision(), revision)
        command.upgrade(_config(tx), revision)
        reached = context.get_current_revision()
    assert reached is not None
    return reached


def ensure_current(database: Database) -> None:
    """Check that the tables have the version that this code needs.

    :raises SchemaError: they are missing, older, or newer; the message gives the command.
    :raises vmmonitor.model.errors.Retriable: the database is unreachable or busy.
    """
    has, needs = version(database), head()
    if has is None:
        raise SchemaError("The database has no tables yet: run 'vmmonitor-manage db sync'")
    if has not in known():
        raise SchemaError(f"The database has version {has}, made by a newer vmmonitor: upgrade")
    if has != needs:
        raise SchemaError(
            f"The database has version {has} and this vmmonitor needs {needs}: "
            "run 'vmmonitor-manage db sync'"
        )


def known() -> list[str]:
    """Return the versions that this code contains, oldest first."""
    walked = ScriptDirectory.from_config(_config()).walk_revisions()
    return [script.revision for script in walked][::-1]


@contextlib.contextmanager
def converted_errors() -> Iterator[None]:
    """Convert errors of the database and of alembic into a SchemaError of one line."""
    try:
        yield
    except (exception.DBError, exc.SQLAlchemyError) as error:
        raise SchemaError(f"The database refused: {session.told(error)}") from error
    except util.CommandError as error:
        raise SchemaError(session.told(error)) from error


def _refuse_downgrade(has: str | None, wanted: str) -> None:
    versions = known()
    wanted = versions[-1] if wanted == "head" else wanted
    if wanted not in versions:
        raise SchemaError(f"There is no version {wanted!r}, only: {', '.join(versions)}")
    if has is not None and (has not in versions or versions.index(has) > versions.index(wanted)):
        raise SchemaError(
            f"The database has version {has}, newer than {wanted}; a downgrade is not supported"
        )


@contextlib.contextmanager
def _locked(tx: Transaction) -> Iterator[None]:
    """Hold the lock that allows one ``db sync`` at a time. SQLite has one writer anyway."""
    if tx.dialect.name == "postgresql":
        # The setting and the lock end with the transaction.
        tx.execute(sa.text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
        tx.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK_NUMBER)))
    if tx.dialect.name != "mysql":
        yield
        return
    if not tx.execute(sa.select(sa.func.get_lock(LOCK, LOCK_SECONDS))).scalar():
        raise errors.Retriable("Another 'db sync' is at work")
    try:
        yield
    finally:
        tx.execute(sa.select(sa.func.release_lock(LOCK)))


def _config(tx: Transaction | None = None) -> config.Config:
    """Return alembic's settings, without a file."""
    made = config.Config()
    made.set_main_option("script_location", "vmmonitor.db:migrations")
    made.attributes["connection"] = tx
    return made
