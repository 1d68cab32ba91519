# SPDX-License-Identifier: Apache-2.0
"""What every database must do with the tables' versions.

Here ``self.blank()`` returns a Database in which there is nothing at all.
"""

from typing import Any

import sqlalchemy as sa
from alembic import autogenerate
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from vmmonitor.db import agents, events, incidents, rows, schema, storable, tables
from vmmonitor.model.clock import HostClock
from vmmonitor.model.event import StoredEvent
from vmmonitor.model.incident import Incident
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.race import race

#: An agent's row as the first version wrote it.
AGENT: dict[str, Any] = {
    "state": "up",
    "seen_at": samples.NOON,
    "reported_state": "up",
    "reason": "",
    "version": "1.0",
    "sent_at": samples.NOON,
    "started_at": samples.NOON,
    "interval": 10.0,
    "spool_depth": 0,
    "spool_refused": 0,
    "last_event_at": 0,
    "filter_checksum": "",
    "inventory_digest": "",
    "held_digest": "",
    "instances": 0,
    "figures": "{}",
}


def event_columns(stored: StoredEvent) -> dict[str, Any]:
    """Return an event's row as the first version wrote it."""
    event = rows.shallow(stored.event)
    columns = rows.shallow(stored) | event | rows.shallow(stored.decision)
    columns |= rows.of_instance(stored.event.instance)
    columns["attributes"] = storable.json_text(columns["attributes"])
    for name in ("event", "decision", "instance", "corrected_at", "evidence"):
        del columns[name]
    return columns


def incident_columns(incident: Incident) -> dict[str, Any]:
    """Return an incident's row as the first version wrote it."""
    columns = rows.shallow(incident) | rows.of_instance(incident.instance)
    added = ("kind", "priority", "held_by", "part_of", "shared_cause", "override")
    for name in ("instance", *added):
        del columns[name]
    return columns | {"open_key": incident.instance.uuid}


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

    def test_what_the_first_version_stored_is_read_by_the_newest(self: Any) -> None:
        database = self.blank()
        schema.sync(database, "0001")
        stored, incident = samples.stored(), samples.incident()
        with database.writer() as tx:
            for table, columns in (
                ("events", event_columns(stored)),
                ("incidents", incident_columns(incident)),
                ("agents", AGENT | {"host": "compute-1"}),
            ):
                quote = tx.dialect.identifier_preparer.quote_identifier
                names = ", ".join(map(quote, columns))
                marks = ", ".join(f":{name}" for name in columns)
                tx.execute(sa.text(f"INSERT INTO {table} ({names}) VALUES ({marks})"), columns)
        schema.sync(database)
        with database.reader() as tx:
            self.assertEqual(stored, events.get(tx, stored.event.event_id))
            self.assertEqual(incident, incidents.get(tx, incident.incident_id))
            agent = agents.get(tx, "compute-1")
            self.assertEqual((HostClock(), None), (agent.clock, agent.unwatched_since))
        database.run(agents.report, samples.report(sent_at=samples.NOON - 9), samples.NOON)
        with database.reader() as tx:
            self.assertEqual(9, agents.get(tx, "compute-1").clock.offset)

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
        with self.assertRaisesRegex(schema.SchemaError, "no way back"):
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
