# SPDX-License-Identifier: Apache-2.0
"""Test the effect, the output and the exit code of ``vmmonitor-manage db``."""

import argparse
import contextlib
import io
import os

import fixtures
import testtools

from vmmonitor.cmd import manage_db
from vmmonitor.db import events, incidents, schema, session
from vmmonitor.tests.fixtures import database
from vmmonitor.tests.functional.db import samples


class TestManageDb(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = os.path.join(self.useFixture(fixtures.TempDir()).path, "vm.sqlite")
        self.url = f"sqlite:///{self.path}"

    def run_db(self, *words: str, url: str | None = None) -> tuple[int, str, str]:
        """Run ``vmmonitor-manage db ...``; return exit code, output and errors."""
        parser = argparse.ArgumentParser()
        manage_db.register(parser.add_subparsers(required=True))
        args = parser.parse_args(["db", *words])
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = args.run(database.conf(self.url if url is None else url), args)
        return code, out.getvalue(), err.getvalue()

    def test_sync_of_an_empty_database_creates_the_tables(self) -> None:
        head = schema.head()
        code, out, _ = self.run_db("version")
        self.assertEqual((0, f"database: no tables\nneeded:   {head}\n"), (code, out))
        self.assertIn(
            "from an empty one to revision 0001", self.run_db("sync", "--revision", "0001")[1]
        )
        self.run_db("sync")
        self.assertIn(f"already at revision {head}", self.run_db("sync", "--revision", head)[1])
        self.assertIn(f"database: {head}", self.run_db("version")[1])

    def test_purge_deletes_by_age_and_by_number(self) -> None:
        self.run_db("sync")
        made = session.Database(database.conf(self.url))
        self.addCleanup(made.dispose)
        day = manage_db.MICROSECONDS_PER_DAY
        now = made.now()
        over = samples.incident()
        made.run(incidents.insert, [over])
        made.run(incidents.transition, over, "run", reason="runs", now=now - 3 * day)
        ages = [3, 3, 1, 0, 0]
        made.run(events.insert, [samples.stored(now - age * day) for age in ages])
        _, out, _ = self.run_db("purge", "--older-than", "2")
        self.assertEqual("Deleted 2 events and 1 incidents.\n", out)
        _, out, _ = self.run_db("purge", "--older-than", "2", "--keep-events", "1")
        self.assertEqual("Deleted 2 events and 0 incidents.\n", out)

    def test_failure_prints_one_line_and_returns_1(self) -> None:
        for words, url, why in (
            (["version"], "", "connection is not set"),
            (["sync"], f"sqlite:///{self.path}/no/such.sqlite", "cannot be reached"),
            (["version"], "mysql://u:secret@127.0.0.1:1/x", "cannot be reached"),
            (["version"], "postgresql://u:secret@127.0.0.1:1/x", "cannot be reached"),
            (["purge", "--older-than", "1"], None, "run 'vmmonitor-manage db sync'"),
            (["sync", "--revision", "0099"], None, "no version '0099'"),
        ):
            code, out, err = self.run_db(*words, url=url)
            self.assertEqual((1, ""), (code, out), str(words))
            self.assertRegex(err, r"\Avmmonitor-manage: [^\n]*\n\Z")
            self.assertIn(why, err)
            self.assertNotIn("secret", err)
