# SPDX-License-Identifier: Apache-2.0
"""What every database must do with the tables' versions.

Here ``self.blank()`` returns a Database in which there is nothing at all.
"""

from typing import Any

import sqlalchemy as sa
from alembic import autogenerate
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from vmmonitor.db import schema, tables
from vmmonitor.tests.functional.db.race import race


class SchemaContract:
    def test_the_migrations_lead_to_the_tables(self: Any) -> None:
        database = self.blank()
        self.assertIsNone(schema.version(database))
        for revision in schema.known():
            self.assertEqual(revision, schema.sync(database, revision))
        self.assertEqual(schema.head(), schema.version(database))
        with database.reader() as tx:
            context = MigrationContext.configure(tx, opts={"compare_type": True})
            self.assertEqual([], autogenerate.compare_metadata(context, tables.METADATA))

    def test_sync_again_changes_nothing(self: Any) -> None:
        database = self.blank()
        self.assertEqual([schema.head()] * 2, [schema.sync(database) for _ in range(2)])

    def test_two_syncs_at_once(self: Any) -> None:
        databases = [self.blank()]
        databases.append(self.same(databases[0]))
        results = race(2, lambda number: schema.sync(databases[number]))
        self.assertEqual([schema.head()] * 2, results)

    def test_a_database_without_tables_is_told(self: Any) -> None:
        with self.assertRaisesRegex(schema.SchemaError, "run 'vmmonitor-manage db sync'"):
            schema.ensure_current(self.blank())

    def test_a_current_database_is_fine(self: Any) -> None:
        database = self.blank()
        schema.sync(database)
        schema.ensure_current(database)

    def test_a_newer_database_is_told_and_left_alone(self: Any) -> None:
        database = self.blank()
        schema.sync(database)
        with database.writer() as tx:
            tx.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        with self.assertRaisesRegex(schema.SchemaError, "9999, made by a newer vmmonitor"):
            schema.ensure_current(database)
        with self.assertRaisesRegex(schema.SchemaError, "a downgrade is not supported"):
            schema.sync(database)

    def test_an_unknown_version_is_refused(self: Any) -> None:
        with self.assertRaisesRegex(schema.SchemaError, "no version '77', only: 0001"):
            schema.sync(self.blank(), "77")

    def test_downgrade_is_not_offered(self: Any) -> None:
        scripts = ScriptDirectory.from_config(schema._config())
        for script in scripts.walk_revisions():
            self.assertFalse(hasattr(script.module, "downgrade"), script.revision)

    def test_a_refusal_is_told_in_one_line(self: Any) -> None:
        database = self.blank()
        with database.writer() as tx:
            tx.execute(sa.text("CREATE TABLE events (something INTEGER)"))
        with self.assertRaisesRegex(schema.SchemaError, r"\A.*events.*\Z"):
            schema.sync(database)
