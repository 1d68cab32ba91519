# SPDX-License-Identifier: Apache-2.0
"""Who asks an expectation that does not answer goes on all the same."""

import threading
import unittest
from unittest import mock

from vmmonitor import conf as configuration
from vmmonitor.engine.recovery.verdicts import Verdicts
from vmmonitor.model.errors import Retriable
from vmmonitor.model.incident import Verdict, VerdictKind
from vmmonitor.testing.deadline import eventually
from vmmonitor.tests.functional.db import samples

IT_FAILED = Verdict(kind=VerdictKind.FAILED, reason="it failed")


class QuestionsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.conf = configuration.new([], files=[])
        self.conf.set_override("workers", 1, "recovery")
        self.conf.set_override("verdict_timeout", 20, "recovery")
        self.expectation = mock.Mock()
        self.expectation.judge.return_value = IT_FAILED
        self.expectation.is_active.return_value = True
        self.go_on = threading.Event()
        self.addCleanup(self.go_on.set)

    def hang(self, *_: object) -> Verdict:
        self.go_on.wait(60)
        return IT_FAILED

    def verdict(self, verdicts: Verdicts | None = None) -> Verdict:
        made = verdicts or Verdicts(self.conf, self.expectation)
        return made._query_verdict(samples.incident(), [])

    def test_the_answer_is_the_expectations(self):
        incident, recovery = samples.incident(), samples.recovery()
        verdicts = Verdicts(self.conf, self.expectation)
        for _ in range(5):
            self.assertIs(IT_FAILED, verdicts._query_verdict(incident, []))
            self.assertTrue(verdicts.is_active(recovery))
        self.expectation.judge.assert_called_with(incident, [])
        self.expectation.is_active.assert_called_with(recovery)

    def test_an_error_is_no_verdict(self):
        self.expectation.judge.side_effect = self.expectation.is_active.side_effect = OSError("no")
        with self.assertLogs("vmmonitor.engine.recovery.verdicts", "ERROR"):
            self.assertEqual(
                Verdict(kind=VerdictKind.UNKNOWN, reason="OSError: no"), self.verdict()
            )
            verdicts = Verdicts(self.conf, self.expectation)
            self.assertFalse(verdicts.is_active(samples.recovery()))

    def test_what_takes_too_long_is_not_waited_for(self):
        self.conf.set_override("verdict_timeout", 0.1, "recovery")
        self.expectation.judge.side_effect = self.expectation.is_active.side_effect = self.hang
        with self.assertLogs("vmmonitor.engine.recovery.verdicts", "WARNING"):
            found = self.verdict()
            verdicts = Verdicts(self.conf, self.expectation)
            self.assertFalse(verdicts.is_active(samples.recovery()))
        self.assertEqual(VerdictKind.UNKNOWN, found.kind)
        self.assertEqual("the expectation did not answer within 0.1 s", found.reason)

    def test_of_questions_that_hang_there_is_a_limit_and_then_room_again(self):
        self.conf.set_override("verdict_timeout", 0.1, "recovery")
        self.expectation.judge.side_effect = self.hang
        verdicts = Verdicts(self.conf, self.expectation)
        with self.assertLogs("vmmonitor.engine.recovery.verdicts", "WARNING"):
            words = [self.verdict(verdicts).reason for _ in range(5)]
        self.assertEqual(2, self.expectation.judge.call_count)
        self.assertEqual({"the expectation has not answered 2 earlier queries"}, set(words[2:]))
        hanging = [one for one in threading.enumerate() if one.name == "expectation"]
        self.assertTrue(all(one.daemon for one in hanging))
        self.expectation.judge.side_effect = None
        self.go_on.set()
        eventually(lambda: self.verdict(verdicts) is IT_FAILED, what="there is room again")

    def test_what_may_pass_is_no_verdict_and_no_stack_trace(self):
        self.expectation.judge.side_effect = Retriable("nova is away")
        with self.assertLogs("vmmonitor.engine.recovery.verdicts", "WARNING"):
            self.assertEqual(
                Verdict(kind=VerdictKind.UNKNOWN, reason="nova is away"), self.verdict()
            )
