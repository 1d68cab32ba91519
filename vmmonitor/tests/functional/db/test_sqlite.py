# SPDX-License-Identifier: Apache-2.0
"""The db room on SQLite."""

import os
import traceback

import fixtures
import testtools

from vmmonitor.db import events, evidence, schema, session
from vmmonitor.db.page import Page
from vmmonitor.model import errors
from vmmonitor.model.evidence import Item
from vmmonitor.tests.fixtures import database
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
from vmmonitor.tests.functional.db.race import race


class OnSQLite(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.fixture = self.useFixture(database.SQLite())
        self.database = self.fixture.database

    def another(self) -> session.Database:
        made = session.Database(self.fixture.conf)
        self.addCleanup(made.dispose)
        return made


class TestEvents(EventsContract, OnSQLite):
    pass


class TestFences(FencesContract, OnSQLite):
    pass


class TestRequests(RequestsContract, OnSQLite):
    pass


class TestHosts(HostsContract, OnSQLite):
    pass


class TestEvidence(EvidenceContract, OnSQLite):
    def test_what_cannot_be_stored_is_not_quoted(self) -> None:
        event_id = self.event()
        with self.database.writer() as tx:
            tx.exec_driver_sql("DROP TABLE evidence")
        item = Item(kind="console", captured_at=1, content=b"private", message="personal")
        with self.database.writer() as tx:
            error = self.assertRaises(
                errors.Retriable, evidence.insert, tx, "compute-1", event_id, item
            )
        told = "".join(traceback.format_exception(error))
        self.assertIn("no such table", told)
        for word in ("private", "personal"):
            self.assertNotIn(word, told)


class TestIncidents(ScanContract, IncidentsContract, OnSQLite):
    pass


class TestRecoveries(RecoveriesContract, OnSQLite):
    pass


class TestAgents(AgentsContract, OnSQLite):
    pass


class TestLimits(LimitsContract, OnSQLite):
    pass


class TestDriftRecords(DriftRecordsContract, OnSQLite):
    pass


class TestOwners(OwnersContract, OnSQLite):
    pass


class TestSilences(SilencesContract, OnSQLite):
    pass


class TestOutbox(OutboxContract, OnSQLite):
    pass


class TestPages(PagesContract, OnSQLite):
    pass


class TestSession(SessionContract, OnSQLite):
    pass


class TestSchema(SchemaContract, testtools.TestCase):
    def blank(self) -> session.Database:
        directory = self.useFixture(fixtures.TempDir()).path
        return self._database("sqlite:///" + os.path.join(directory, "blank.sqlite"))

    def same(self, one: session.Database) -> session.Database:
        return self._database(one.engine.url.render_as_string(hide_password=False))

    def _database(self, url: str) -> session.Database:
        made = session.Database(database.conf(url))
        self.addCleanup(made.dispose)
        return made


class TestInMemory(testtools.TestCase):
    def test_threads_share_one_database_in_memory(self) -> None:
        made = session.Database(database.conf("sqlite://"))
        self.addCleanup(made.dispose)
        schema.sync(made)

        def store(number: int) -> None:
            for _ in range(5):
                made.run(events.insert, [samples.stored()])

        self.assertEqual([None] * 8, race(8, store))
        with made.reader() as tx:
            self.assertEqual(40, len(events.page(tx, Page(limit=100))))
