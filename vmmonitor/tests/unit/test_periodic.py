# SPDX-License-Identifier: Apache-2.0
import threading
import unittest

from vmmonitor.model.errors import Retriable
from vmmonitor.periodic import PeriodicThread

HOUR = 3600.0


class PeriodicThreadTest(unittest.TestCase):
    def periodic(self, work, interval=HOUR) -> PeriodicThread:
        thread = PeriodicThread("purge", work, lambda: interval, failure="Purging failed")
        self.addCleanup(thread.stop, 30)
        thread.start()
        return thread

    def test_work_interval_over_repeats(self):
        worked = threading.Semaphore(0)
        self.periodic(worked.release, interval=0.001)
        for _ in range(3):
            self.assertTrue(worked.acquire(timeout=30))

    def test_work_before_interval_is_not_called(self):
        thread = self.periodic(self.fail)
        thread.stop(30)

    def test_wake_calls_work_before_interval(self):
        worked = threading.Event()
        self.periodic(worked.set).wake()
        self.assertTrue(worked.wait(30))

    def test_stop_before_start_returns(self):
        PeriodicThread("purge", self.fail, lambda: HOUR).stop(30)

    def test_stop_ends_thread(self):
        thread = self.periodic(self.fail)
        thread.stop(30)
        self.assertNotIn("purge", [each.name for each in threading.enumerate()])

    def work_that_raises(self, error: Exception) -> list[str]:
        """Return the log of a thread whose first call raises and whose second call ends."""
        again = threading.Event()
        errors = [error]

        def work() -> None:
            if errors:
                raise errors.pop()
            again.set()

        with self.assertLogs("vmmonitor.periodic") as logged:
            self.periodic(work, interval=0.001)
            self.assertTrue(again.wait(30))
        return logged.output

    def test_work_raises_retriable_logs_warning_and_repeats(self):
        logged = self.work_that_raises(Retriable("the database is away"))
        self.assertEqual(
            ["WARNING:vmmonitor.periodic:Purging failed: the database is away"], logged
        )

    def test_work_raises_error_logs_traceback_and_repeats(self):
        logged = self.work_that_raises(ValueError("wrong"))
        self.assertIn("ERROR:vmmonitor.periodic:Purging failed\nTraceback", logged[0])
