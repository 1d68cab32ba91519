# SPDX-License-Identifier: Apache-2.0
"""The spool on a real disk: order, bounds, deaths and damage."""

import os
import signal
import sqlite3
import subprocess
import sys

import fixtures
import testtools

from vmmonitor.agent.spool import Spool, SpoolUnavailable
from vmmonitor.agent.spool_file import RESERVED_BYTES, WrongFormat

#: Appends for ever, and says so after each event that is on the disk.
WRITER = """
import sys
from vmmonitor.agent.spool import Spool
spool = Spool(sys.argv[1], 100000, 1 << 28)
for number in range(100000):
    spool.append(
        [{"event_id": str(number), "decision": {"action": "record"}}], {"u": {"n": number}}
    )
    print(number, flush=True)
"""


def delivery(event_id: str, action: str = "record", size: int = 0) -> dict:
    return {"event_id": event_id, "decision": {"action": action}, "filler": "x" * size}


class SpoolTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.path = os.path.join(self.useFixture(fixtures.TempDir()).path, "deep", "spool.db")

    def open(self, max_events=1000, max_bytes=1 << 28) -> Spool:
        spool = Spool(self.path, max_events, max_bytes)
        self.addCleanup(spool.close)
        return spool

    def ids(self, spool: Spool) -> list[str]:
        return [entry.body["event_id"] for entry in spool.read(10000, 1 << 30)]

    def test_events_are_read_as_they_were_appended(self):
        spool = self.open()
        spool.append([delivery("a"), delivery("b")], {})
        spool.append([delivery("c")], {})
        self.assertEqual(["a", "b", "c"], self.ids(spool))
        self.assertEqual([1, 2, 3], [entry.sequence for entry in spool.read(9)])
        self.assertEqual(3, spool.depth)

    def test_batch_is_bounded_by_number_and_size(self):
        spool = self.open()
        spool.append([delivery(str(number), size=1000) for number in range(10)], {})
        self.assertEqual(3, len(spool.read(3)))
        self.assertEqual(2, len(spool.read(9, max_bytes=2500)))
        self.assertEqual(1, len(spool.read(9, max_bytes=10)))

    def test_settled_events_are_removed_and_refused_ones_quarantined(self):
        spool = self.open()
        spool.append([delivery("a"), delivery("b"), delivery("c")], {})
        first, second, _ = spool.read(9)
        spool.settle([first, second], {second.sequence: "no"}, now=5)
        self.assertEqual(["c"], self.ids(spool))
        (refused,) = spool.refused()
        self.assertEqual(("b", "no", 5), (refused.event_id, refused.reason, refused.refused_at))
        self.assertEqual((1, 1), (spool.depth, spool.refused_count))

    def test_sequence_numbers_are_never_reused(self):
        spool = self.open()
        spool.append([delivery("a")], {})
        spool.settle(spool.read(9), {}, now=1)
        spool.append([delivery("b")], {})
        self.assertEqual(2, spool.read(1)[0].sequence)

    def test_spool_is_equal_after_a_restart(self):
        spool = self.open()
        spool.append([delivery("a")], {"u": {"state": "running"}, "v": {"state": "paused"}})
        spool.append([], {"v": None})
        spool.close()
        again = self.open()
        self.assertEqual(["a"], self.ids(again))
        self.assertEqual({"u": {"state": "running"}}, again.known())
        self.assertEqual(1, again.depth)

    def test_files_are_readable_by_the_owner_only(self):
        self.open().append([delivery("a")], {})
        for ending in ("", "-wal"):
            self.assertEqual(0o600, os.stat(self.path + ending).st_mode & 0o777)

    # -- bounds --------------------------------------------------------------------------------
    def test_full_spool_drops_recorded_events_first(self):
        spool = self.open(max_events=10)
        spool.append([delivery(f"r{number}") for number in range(5)], {})
        spool.append([delivery(f"R{number}", "incident") for number in range(5)], {})
        spool.append([delivery("x"), delivery("y")], {})
        self.assertEqual(
            ["r2", "r3", "r4", *(f"R{n}" for n in range(5)), "x", "y"], self.ids(spool)
        )
        self.assertEqual((2, 10), (spool.overflowed, spool.depth))
        spool.append([delivery(f"S{number}", "incident") for number in range(7)], {})
        self.assertEqual(
            [*(f"R{n}" for n in range(2, 5)), *(f"S{n}" for n in range(7))], self.ids(spool)
        )

    def test_size_of_the_file_is_bounded(self):
        spool = self.open(max_events=100000, max_bytes=1 << 20)
        for number in range(300):
            spool.append([delivery(str(number), size=10000)], {})
        self.assertLess(os.path.getsize(self.path), (4 << 20) + (2 << 20))
        kept = self.ids(spool)
        self.assertEqual("299", kept[-1])
        self.assertEqual(300, len(kept) + spool.overflowed)

    # -- death and damage ----------------------------------------------------------------------
    def test_appended_events_survive_a_kill(self):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, self.path], stdout=subprocess.PIPE, text=True
        )
        said = [next(writer.stdout) for _ in range(50)]
        writer.send_signal(signal.SIGKILL)
        said += writer.stdout.readlines()
        writer.stdout.close()
        writer.wait()
        whole = [line for line in said if line.endswith("\n")]
        spool = self.open()
        self.assertGreaterEqual(spool.depth, len(whole))
        self.assertEqual([str(number) for number in range(spool.depth)], self.ids(spool))
        self.assertEqual(
            {"u": {"n": spool.depth - 1}}, spool.known(), "events and knowledge differ"
        )

    def test_file_that_is_not_a_database_is_replaced(self):
        os.makedirs(os.path.dirname(self.path))
        with open(self.path, "w") as file:
            file.write("this is not a database\n" * 1000)
        spool = self.open()
        spool.append([delivery("a")], {})
        self.assertEqual(["a"], self.ids(spool))
        (aside,) = spool.set_aside
        with open(aside) as file:
            self.assertTrue(file.read().startswith("this is not"))

    def test_readable_rows_of_a_damaged_file_are_recovered(self):
        spool = self.open(max_events=5000)
        spool.append([delivery(str(number), size=500) for number in range(2000)], {"u": {"n": 1}})
        spool.close()
        with open(self.path, "r+b") as file:
            for offset in range(1 << 16, os.path.getsize(self.path), 1 << 16):
                file.seek(offset)
                file.write(b"\xff" * 4096)
        again = self.open(max_events=100000)
        self.assertEqual(1, len(again.set_aside))
        again.append([delivery("new")], {})
        kept = self.ids(again)
        self.assertEqual("new", kept[-1])
        numbers = [int(event_id) for event_id in kept[:-1]]
        self.assertEqual(sorted(set(numbers)), numbers)
        self.assertEqual((0, 1999), (numbers[0], numbers[-1]), "read from one end only")

    def test_torn_log_loses_no_earlier_commit(self):
        spool = self.open()
        spool.append([delivery("a")], {})
        spool.append([delivery("b")], {})
        wal = self.path + "-wal"
        with open(wal, "rb") as file:
            torn = file.read()
        with open(self.path, "rb") as file:
            base = file.read()
        self.path += ".copy"
        with open(self.path, "wb") as file:
            file.write(base)
        with open(self.path + "-wal", "wb") as file:
            file.write(torn[: len(torn) - 100])
        self.assertIn("a", self.ids(self.open()))

    def test_damage_found_later_is_recovered(self):
        spool = self.open()
        spool.append([delivery("a")], {})
        self.lose(spool)
        spool.append([delivery("b")], {})
        self.assertEqual(["b"], self.ids(spool))
        self.assertEqual(1, len(spool.set_aside))

    def lose(self, spool: Spool) -> None:
        """Put an empty file where the spool was."""
        spool._db.close()
        for ending in ("", "-wal", "-shm"):
            if os.path.exists(self.path + ending):
                os.unlink(self.path + ending)
        spool._db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)

    def test_unreadable_row_blocks_no_other(self):
        spool = self.open()
        spool.append([delivery(name) for name in "abc"], {})
        with sqlite3.connect(self.path) as db:
            db.execute("UPDATE event SET body = 'torn' WHERE sequence = 2")
        self.assertEqual(["a", "c"], self.ids(spool))
        self.assertEqual((2, 1), (spool.depth, len(spool.set_aside)))

    def test_replacement_of_a_broken_file_is_retried(self):
        spool = self.open()
        spool.append([delivery("a"), delivery("b")], {})
        first = spool.read(1)
        with sqlite3.connect(self.path) as db:
            db.execute("UPDATE event SET body = 'torn' WHERE sequence = 1")
        os.mkdir(self.path + ".new")
        for _ in range(2):
            self.assertRaises(SpoolUnavailable, spool.read, 9)
        os.rmdir(self.path + ".new")
        spool.append([delivery("c")], {})
        self.assertEqual(["b", "c"], self.ids(spool))
        spool.settle(first, {}, now=1)
        self.assertEqual(["b", "c"], self.ids(spool), "another event was taken for this one")

    def test_receipt_from_before_a_recovery_removes_no_other_event(self):
        spool = self.open()
        spool.append([delivery("a"), delivery("b"), delivery("c")], {})
        sent = spool.read(1)
        self.lose(spool)
        spool.append([delivery("d")], {})
        self.assertEqual(1, spool.read(1)[0].sequence)
        spool.settle(sent, {1: "no"}, now=1)
        self.assertEqual((["d"], 0), (self.ids(spool), spool.refused_count))

    def test_append_after_a_failed_settle_is_durable(self):
        spool = self.open()
        spool.append([delivery("a")], {})
        entries = spool.read(1)
        with sqlite3.connect(self.path) as db:
            db.execute(
                "CREATE TRIGGER no BEFORE DELETE ON event BEGIN SELECT RAISE(FAIL, 'no'); END"
            )
        self.assertRaises(SpoolUnavailable, spool.settle, entries, {}, 1)
        (level,) = spool._db.execute("PRAGMA synchronous").fetchone()
        self.assertEqual(2, level, "not FULL")
        self.assertEqual((["a"], 1), (self.ids(spool), spool.depth))

    def test_settle_of_entries_read_before_a_recovery_removes_no_other(self):
        spool = self.open()
        spool.append([delivery("a"), delivery("b")], {})
        spool.settle(spool.read(1), {}, now=1)
        read = spool.read(9)
        with open(self.path, "r+b") as file:
            os.ftruncate(file.fileno(), 0)
        spool._db.close()
        spool._db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        for number in range(3):
            spool.append([delivery(str(number))], {})
        spool.settle(read, {}, now=1)
        self.assertEqual(["0", "1", "2"], self.ids(spool)[-3:])

    def test_unreadable_rows_cost_no_other_row(self):
        spool = self.open()
        spool.append([delivery("a"), delivery("b"), delivery("c")], {"u": {"n": 1}, "v": {"n": 2}})
        with sqlite3.connect(self.path) as db:
            db.execute("UPDATE event SET body = substr(body, 5) WHERE event_id = 'a'")
            db.execute("UPDATE event SET body = x'ff00' WHERE event_id = 'c'")
            db.execute("UPDATE known SET body = substr(body, 1, 4) WHERE uuid = 'u'")
        spool.close()
        spool = self.open()
        self.assertEqual({"v": {"n": 2}}, spool.known())
        self.assertEqual(["b"], self.ids(spool))
        self.assertEqual((1, 1), (spool.depth, len(spool.set_aside)))

    def test_appends_after_a_failed_settle_are_fsynced(self):
        spool = self.open()
        spool.append([delivery("a")], {})
        spool._db.execute(
            "CREATE TRIGGER no BEFORE DELETE ON event BEGIN SELECT 1/0, raise(FAIL, 'x'); END"
        )
        self.assertRaises(SpoolUnavailable, spool.settle, spool.read(1), {}, 1)
        self.assertEqual((2,), spool._db.execute("PRAGMA synchronous").fetchone())

    def test_half_created_file_is_completed(self):
        self.open().close()
        with sqlite3.connect(self.path) as db:
            db.execute("PRAGMA user_version = 0")
        spool = self.open()
        spool.append([delivery("a")], {})
        self.assertEqual(["a"], self.ids(spool))
        self.assertEqual([], spool.set_aside)

    def test_reserve_exists_after_a_restart(self):
        self.open().close()
        spool = self.open()
        self.assertGreater(os.path.getsize(self.path), RESERVED_BYTES)
        self.assertGreater(os.path.getsize(self.path + "-wal"), RESERVED_BYTES)
        self.assertEqual({}, spool.known())

    def test_fence_tokens_survive_a_restart(self):
        spool = self.open()
        spool.store_fence("a", 7, 1)
        spool.store_fence("b", 2**62, 2)
        spool.store_fence("a", 8, 3)
        self.assertEqual({"a": 8, "b": 2**62}, spool.fences())
        spool.close()
        self.assertEqual({"a": 8, "b": 2**62}, self.open().fences())

    def test_oldest_fence_tokens_are_forgotten_beyond_the_limit(self):
        self.useFixture(fixtures.MonkeyPatch("vmmonitor.agent.spool.MAX_FENCES", 2))
        spool = self.open()
        for at, uuid in enumerate("abac"):
            spool.store_fence(uuid, 7, at)
        self.assertEqual({"a": 7, "c": 7}, spool.fences())

    def test_fence_tokens_of_a_broken_file_are_recovered(self):
        spool = self.open()
        spool.store_fence("a", 7, 1)
        spool._damage = sqlite3.DatabaseError("malformed")
        spool._db.execute("DROP TABLE known")
        self.assertEqual({}, spool.known())
        self.assertEqual(({"a": 7}, 1), (spool.fences(), len(spool.set_aside)))

    def test_file_of_version_1_gets_the_table_of_fences(self):
        spool = self.open()
        spool.append([delivery("a")], {})
        spool.close()
        with sqlite3.connect(self.path) as db:
            db.execute("DROP TABLE fence")
            db.execute("PRAGMA user_version = 1")
        spool = self.open()
        spool.store_fence("a", 7, 1)
        self.assertEqual((["a"], {"a": 7}), (self.ids(spool), spool.fences()))
        self.assertEqual([], spool.set_aside)

    def test_newer_format_is_not_changed(self):
        self.open().close()
        with sqlite3.connect(self.path) as db:
            db.execute("PRAGMA user_version = 99")
        self.assertRaises(WrongFormat, Spool, self.path, 10, 1 << 20)

    def test_unwritable_directory_is_an_error(self):
        blocked = os.path.join(self.useFixture(fixtures.TempDir()).path, "file")
        open(blocked, "w").close()
        error = self.assertRaises(SpoolUnavailable, Spool, blocked + "/spool.db", 10, 1 << 20)
        self.assertIn(blocked, str(error))
