# SPDX-License-Identifier: Apache-2.0
"""What becomes of ``[database] connection``."""

import testtools
from sqlalchemy.pool import QueuePool

from vmmonitor.db import connect
from vmmonitor.model import errors
from vmmonitor.tests.fixtures import database


class TestURL(testtools.TestCase):
    def test_it_is_completed_and_what_it_says_goes_first(self) -> None:
        mysql = connect.url(database.conf("mysql://u:p@db/vm?read_timeout=7"))
        self.assertEqual("mysql+pymysql", mysql.drivername)
        self.assertEqual(("utf8mb4", "7"), (mysql.query["charset"], mysql.query["read_timeout"]))
        postgresql = connect.url(database.conf("postgresql://db/vm"))
        self.assertEqual("postgresql+psycopg2", postgresql.drivername)
        self.assertEqual(
            "mysql+mysqldb", connect.url(database.conf("mysql+mysqldb://db/vm")).drivername
        )

    def test_what_is_unusable_is_told_without_the_password(self) -> None:
        for url, why in (
            ("", "is not set"),
            ("secret@nothing", "not a database URL"),
            ("oracle://u:secret@db/vm", "'oracle'; supported are: mysql, postgresql, sqlite"),
        ):
            error = self.assertRaises(errors.VmmonitorError, connect.url, database.conf(url))
            self.assertIn(why, str(error))
            self.assertNotIn("secret", str(error))

    def test_a_driver_that_is_not_installed(self) -> None:
        with testtools.ExpectedException(errors.VmmonitorError, ".*cannot be used"):
            connect.engine(database.conf("mysql+nothing://db/vm"))

    def test_the_pool_has_room_for_all_recovery_workers(self) -> None:
        conf = database.conf("postgresql://db/vm")
        conf.set_override("workers", 40, "recovery")
        pool = connect.engine(conf).pool
        assert isinstance(pool, QueuePool)
        self.assertEqual(40 + connect.OTHER_THREADS, pool.size())
