# SPDX-License-Identifier: Apache-2.0
import threading
import unittest

from vmmonitor.bounded_call import BoundedCalls, CallTimeout, TooManyCalls


class BoundedCallsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.release = threading.Event()
        self.addCleanup(self.release.set)

    def hang(self) -> str:
        self.release.wait(60)
        return "late"

    def test_call_function_returns_result(self):
        self.assertEqual(42, BoundedCalls(1).call("answer", lambda: 42, 30))

    def test_call_runs_in_named_daemon_thread(self):
        thread = BoundedCalls(1).call("answer", threading.current_thread, 30)
        self.assertEqual(("answer", True), (thread.name, thread.daemon))

    def test_call_function_raises_same_exception(self):
        with self.assertRaisesRegex(ZeroDivisionError, "division"):
            BoundedCalls(1).call("answer", lambda: 1 // 0, 30)

    def test_call_function_hangs_raises_timeout(self):
        with self.assertRaisesRegex(CallTimeout, "no answer within 0.01 s"):
            BoundedCalls(1).call("answer", self.hang, 0.01)

    def test_call_limit_reached_raises_without_calling(self):
        calls = BoundedCalls(2)
        hung = [calls.begin("hung", self.hang) for _ in range(2)]
        with self.assertRaisesRegex(TooManyCalls, "2 earlier calls have not returned"):
            calls.call("answer", self.fail, 30)
        self.release.set()
        self.assertEqual(["late", "late"], [future.result(30) for future in hung])
        self.assertEqual(42, calls.call("answer", lambda: 42, 30))

    def test_call_function_raises_frees_its_place(self):
        calls = BoundedCalls(1)
        for _ in range(3):
            with self.assertRaises(ZeroDivisionError):
                calls.call("answer", lambda: 1 // 0, 30)
