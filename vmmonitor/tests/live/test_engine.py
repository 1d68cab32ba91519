# SPDX-License-Identifier: Apache-2.0
"""Test several engines on MariaDB and PostgreSQL, which differ in locks and isolation."""

import functools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import sqlalchemy as sa

from vmmonitor.db import schema, session
from vmmonitor.model.errors import Retriable
from vmmonitor.model.recovery import Outcome, RecoveryRequest
from vmmonitor.testing.deadline import eventually
from vmmonitor.tests.fixtures import database
from vmmonitor.tests.fixtures.services import Database, MariaDB, PostgreSQL
from vmmonitor.tests.fixtures.shared import shared
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.engine.admission import test_storm_breaker, test_storm_storage
from vmmonitor.tests.functional.engine.base import FAIL_FOR_GOOD, EngineCase, batch, delivery
from vmmonitor.tests.functional.engine.crowd import Crowd
from vmmonitor.tests.functional.engine.races import EngineRaces
from vmmonitor.tests.functional.engine.storm_races import StormRaces
from vmmonitor.tests.functional.engine.storms_base import StormCase


@functools.cache
def address(server: type[Database]) -> str:
    """Use the database with current tables on the shared server."""
    url = shared(server).create()
    made = session.Database(database.conf(url))
    schema.sync(made)
    made.dispose()
    return url


class OnServer(EngineCase):
    """Use the clock of the database, which all engines share."""

    server: ClassVar[type[Database]]
    crowd = 300

    def make_database(self) -> None:
        self.conf = database.conf(address(self.server))
        self.database = self.another()
        database.empty(self.database)

    def another(self) -> session.Database:
        made = session.Database(self.conf)
        self.addCleanup(made.dispose)
        return made

    def databases(self) -> list[session.Database]:
        return [self.database, self.another(), self.another()]


class ServerContract(EngineRaces, Crowd):
    many = 300

    def test_database_killed_during_batches_loses_and_duplicates_nothing(self) -> None:
        server = self.useFixture(self.server())
        self.conf = database.conf(server.url)
        self.database = self.another()
        schema.sync(self.database)
        both = [self.ingest(), self.ingest(self.another())]
        sent = [batch(*(delivery(uuid=samples.new_id()) for _ in range(3))) for _ in range(120)]
        stored = threading.Semaphore(0)

        def until_stored(number: int) -> list[str]:
            while True:
                try:
                    answer = both[number % 2].store(sent[number], 8)
                    stored.release()
                    return [receipt.status for receipt in answer]
                except Retriable:
                    pass

        with ThreadPoolExecutor(8) as threads:
            answers = threads.map(until_stored, range(120))
            for _ in range(20):
                stored.acquire(timeout=30)
            server.restart()
        words = [word for answer in answers for word in answer]
        self.assertEqual(0, words.count("refused"))
        self.assertEqual((360, 360), (len(self.events()), len(self.incidents())))
        self.assertEqual({1}, {one.event_count for one in self.incidents()})


class MariaDBTest(ServerContract, OnServer):
    server = MariaDB


class PostgreSQLTest(ServerContract, OnServer):
    server = PostgreSQL

    def test_read_only_database_refuses_no_event(self) -> None:
        sent = batch(*(delivery(uuid=samples.new_id()) for _ in range(3)))

        def begin(connection: sa.Connection) -> None:
            connection.exec_driver_sql("SET TRANSACTION READ ONLY")

        sa.event.listen(self.database.engine, "begin", begin)
        ingest = self.ingest()
        with self.assertRaisesRegex(Retriable, "read-only"):
            ingest.store(sent, 20)
        sa.event.remove(self.database.engine, "begin", begin)
        self.assertEqual(["stored"] * 3, [one.status for one in ingest.store(sent, 20)])

    def test_read_only_database_during_a_call_calls_the_driver_once(self) -> None:
        for name, value in (("lease", 1.0), ("poll_interval", 0.05)):
            self.conf.set_override(name, value, "recovery")
        databases = [self.database, self.another()]

        def begin(connection: sa.Connection) -> None:
            connection.exec_driver_sql("SET TRANSACTION READ ONLY")

        def answer(request: RecoveryRequest) -> Outcome:
            for each in databases:
                sa.event.listen(each.engine, "begin", begin)
            return FAIL_FOR_GOOD

        self.driver.answer = answer
        self.store(delivery())
        owner, _ = (self.recoveries(each) for each in databases)
        eventually(lambda: self.driver.requests)
        eventually(lambda: not owner._workers._threads, timeout=60, what="the worker is freed")
        # The lease has expired for both engines.
        eventually(lambda: self.last_attempt().lease_until + samples.SECOND < self.database.now())
        # The engine whose driver has returned reaches the database first.
        sa.event.remove(databases[0].engine, "begin", begin)
        self.eventually_in("unrecovered")
        sa.event.remove(databases[1].engine, "begin", begin)
        self.assertEqual(1, len(self.driver.requests))


class StormsOnServer(StormRaces):
    def wait_until_calm(self) -> None:
        time.sleep(1.1)


class MariaDBStormsTest(StormsOnServer, OnServer, StormCase):
    server = MariaDB


class PostgreSQLStormsTest(StormsOnServer, OnServer, StormCase):
    server = PostgreSQL


class ManualClock(OnServer):
    """Use the clock of the test."""

    def make_database(self) -> None:
        super().make_database()
        self.database.now = lambda: self.clock


class MariaDBFuseTest(ManualClock, test_storm_breaker.ScopeTest):
    server = MariaDB


class MariaDBStorageTest(ManualClock, test_storm_storage.ProbeTest):
    server = MariaDB


class PostgreSQLFuseTest(ManualClock, test_storm_breaker.ScopeTest):
    server = PostgreSQL


class PostgreSQLStorageTest(ManualClock, test_storm_storage.ProbeTest):
    server = PostgreSQL
