# SPDX-License-Identifier: Apache-2.0
"""Run the database contracts of SQLite on MariaDB and PostgreSQL, and test lost servers."""

import functools
import time
from typing import Any, ClassVar

import testtools

from vmmonitor.db import events, schema, session
from vmmonitor.db.page import Page
from vmmonitor.model import errors
from vmmonitor.tests.fixtures import database
from vmmonitor.tests.fixtures.services import Database, MariaDB, PostgreSQL
from vmmonitor.tests.fixtures.shared import shared
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.contract.agents_contract import AgentsContract
from vmmonitor.tests.functional.db.contract.drift_records_contract import DriftRecordsContract
from vmmonitor.tests.functional.db.contract.events_contract import EventsContract
from vmmonitor.tests.functional.db.contract.evidence_contract import EvidenceContract
from vmmonitor.tests.functional.db.contract.fences_contract import FencesContract
from vmmonitor.tests.functional.db.contract.hosts_contract import HostsContract
from vmmonitor.tests.functional.db.contract.incidents_contract import IncidentsContract
from vmmonitor.tests.functional.db.contract.limits_contract import LimitsContract
from vmmonitor.tests.functional.db.contract.outbox_contract import OutboxContract
from vmmonitor.tests.functional.db.contract.owners_contract import OwnersContract
from vmmonitor.tests.functional.db.contract.pages_contract import PagesContract
from vmmonitor.tests.functional.db.contract.recoveries_contract import RecoveriesContract
from vmmonitor.tests.functional.db.contract.requests_contract import RequestsContract
from vmmonitor.tests.functional.db.contract.scan_contract import ScanContract
from vmmonitor.tests.functional.db.contract.schema_contract import SchemaContract
from vmmonitor.tests.functional.db.contract.session_contract import SessionContract
from vmmonitor.tests.functional.db.contract.silences_contract import SilencesContract
from vmmonitor.tests.promises import shows


@functools.cache
def current(server: type[Database]) -> session.Database:
    """Use the database with current tables on the shared server."""
    made = session.Database(database.conf(shared(server).create()))
    schema.sync(made)
    return made


class OnServer(testtools.TestCase):
    server: ClassVar[type[Database]]

    def setUp(self) -> None:
        super().setUp()
        self.database = current(self.server)
        database.empty(self.database)

    def another(self) -> session.Database:
        return self.same(self.database)

    def blank(self) -> session.Database:
        return self._database(shared(self.server).create())

    def same(self, one: session.Database) -> session.Database:
        return self._database(one.engine.url.render_as_string(hide_password=False))

    def _database(self, url: str) -> session.Database:
        made = session.Database(database.conf(url))
        self.addCleanup(made.dispose)
        return made


class OnMariaDB(OnServer):
    server = MariaDB


class OnPostgreSQL(OnServer):
    server = PostgreSQL


class ServerContract:
    """Test a lost server, on a server that is not shared."""

    def test_killed_server_is_reconnected(self: Any) -> None:
        server = self.useFixture(self.server())
        found = self._database(server.url)
        schema.sync(found)
        found.run(events.insert, [samples.stored()])
        before = found.now()
        server.kill()
        started = time.monotonic()
        with self.assertRaisesRegex(errors.Retriable, "The database "):
            found.run(events.insert, [samples.stored()])
        self.assertLess(time.monotonic() - started, 15)
        with self.assertRaises(errors.Retriable), found.reader():
            pass
        self.assertGreater(found.now(), before)
        server.restart()
        found.run(events.insert, [samples.stored()])
        with found.reader() as tx:
            self.assertEqual(2, len(events.page(tx, Page(limit=9))))

    def test_connection_lost_while_idle_is_replaced(self: Any) -> None:
        server = self.useFixture(self.server())
        found = self._database(server.url)
        schema.sync(found)
        with found.reader():
            pass
        server.restart()
        with found.reader() as tx:
            self.assertEqual([], events.page(tx, Page(limit=9)))

    def test_lock_timeout_raises_retriable(self: Any) -> None:
        event = samples.stored()
        with self.database.writer() as tx:
            events.insert(tx, [event])
            started = time.monotonic()
            with self.assertRaises(errors.Retriable), self.another().writer() as other:
                events.insert(other, [event])
            self.assertTrue(3 < time.monotonic() - started < 9)


@shows("P2")
class TestMariaDBEvents(EventsContract, OnMariaDB):
    pass


class TestMariaDBActions(RequestsContract, OnMariaDB):
    pass


class TestMariaDBHosts(HostsContract, OnMariaDB):
    pass


class TestMariaDBEvidence(EvidenceContract, OnMariaDB):
    pass


class TestMariaDBFences(FencesContract, OnMariaDB):
    pass


@shows("P3")
class TestMariaDBIncidents(ScanContract, IncidentsContract, OnMariaDB):
    pass


class TestMariaDBRecoveries(RecoveriesContract, OnMariaDB):
    pass


class TestMariaDBAgents(AgentsContract, OnMariaDB):
    pass


@shows("P6")
class TestMariaDBLimits(LimitsContract, OnMariaDB):
    pass


class TestMariaDBDriftRecords(DriftRecordsContract, OnMariaDB):
    pass


class TestMariaDBOwners(OwnersContract, OnMariaDB):
    pass


class TestMariaDBSilences(SilencesContract, OnMariaDB):
    pass


class TestMariaDBOutbox(OutboxContract, OnMariaDB):
    pass


class TestMariaDBPages(PagesContract, OnMariaDB):
    pass


class TestMariaDBSession(SessionContract, OnMariaDB):
    pass


class TestMariaDBSchema(SchemaContract, OnMariaDB):
    pass


class TestMariaDBServer(ServerContract, OnMariaDB):
    pass


@shows("P2")
class TestPostgreSQLEvents(EventsContract, OnPostgreSQL):
    pass


class TestPostgreSQLActions(RequestsContract, OnPostgreSQL):
    pass


class TestPostgreSQLHosts(HostsContract, OnPostgreSQL):
    pass


class TestPostgreSQLEvidence(EvidenceContract, OnPostgreSQL):
    pass


class TestPostgreSQLFences(FencesContract, OnPostgreSQL):
    pass


@shows("P3")
class TestPostgreSQLIncidents(ScanContract, IncidentsContract, OnPostgreSQL):
    pass


class TestPostgreSQLRecoveries(RecoveriesContract, OnPostgreSQL):
    pass


class TestPostgreSQLAgents(AgentsContract, OnPostgreSQL):
    pass


@shows("P6")
class TestPostgreSQLLimits(LimitsContract, OnPostgreSQL):
    pass


class TestPostgreSQLDriftRecords(DriftRecordsContract, OnPostgreSQL):
    pass


class TestPostgreSQLOwners(OwnersContract, OnPostgreSQL):
    pass


class TestPostgreSQLSilences(SilencesContract, OnPostgreSQL):
    pass


class TestPostgreSQLOutbox(OutboxContract, OnPostgreSQL):
    pass


class TestPostgreSQLPages(PagesContract, OnPostgreSQL):
    pass


class TestPostgreSQLSession(SessionContract, OnPostgreSQL):
    pass


class TestPostgreSQLSchema(SchemaContract, OnPostgreSQL):
    pass


class TestPostgreSQLServer(ServerContract, OnPostgreSQL):
    pass
