# SPDX-License-Identifier: Apache-2.0
"""Test the masakari driver: notifications, responses, and that each is posted once."""

import dataclasses
import itertools
import ssl
import time
import uuid
from typing import Any

import fixtures
import testtools
import trustme

from vmmonitor import conf as configuration
from vmmonitor.drivers.masakari import MasakariDriver
from vmmonitor.model.recovery import Outcome, RecoveryRequest
from vmmonitor.testing import builders
from vmmonitor.testing.agents import FakeAgents
from vmmonitor.tests.fixtures.masakari import SECOND, Masakari, payload


def request(
    seconds: float = 0, attempt: int = 1, timeout: float = 5.0, **changes: Any
) -> RecoveryRequest:
    """Return a request for a recovery, created some seconds after the first failure."""
    made = builders.request(timeout=timeout, **changes)
    at = builders.AT + round(seconds * SECOND)
    recovery = dataclasses.replace(made.recovery, attempt=attempt, created_at=at, not_before=at)
    return dataclasses.replace(made, recovery=recovery)


class MasakariTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.useFixture(fixtures.EnvironmentVariable("NO_PROXY", "127.0.0.1"))
        self.masakari = self.useFixture(Masakari())
        self.driver = self.connect(self.masakari)

    def connect(self, masakari: Masakari, **options: Any) -> MasakariDriver:
        conf = configuration.new([], files=[])
        conf.set_override("poll_interval", 0.1, "masakari")
        driver = MasakariDriver(conf, FakeAgents())
        masakari.serve(conf, "masakari")
        for name, value in options.items():
            conf.set_override(name, value, "masakari")
        return driver

    def recover(self, *args: Any, **changes: Any) -> Outcome:
        return self.driver.recover(request(*args, **changes))

    def posted_events(self) -> list[tuple[str, str]]:
        """Return the events of the notifications that were posted."""
        payloads = [
            asked.body["notification"]["payload"] for asked in self.masakari.requests("POST")
        ]
        return [(one["event"], one["vir_domain_event"]) for one in payloads]

    def notification_id(self) -> str:
        """Return the id of the only notification."""
        (row,) = self.masakari.rows
        return row["notification_uuid"]

    def assertFails(self, outcome: Outcome, word: str, retry: bool) -> None:
        self.assertEqual(("fail", retry), (outcome.move, outcome.retry), outcome.message)
        self.assertIn(word, outcome.message)
        self.assertLess(len(outcome.message), 1000)


class TestTelling(MasakariTest):
    def test_notification_has_the_documented_content(self):
        self.recover()
        (asked,) = self.masakari.requests("POST")
        expected = {
            "type": "VM",
            "hostname": "compute-1",
            "generated_time": "2026-11-22T13:20:00Z",
            "payload": payload(),
        }
        self.assertEqual({"notification": expected}, asked.body)

    def test_notification_does_not_depend_on_the_cause(self):
        hung = builders.incident(cause="liveness.hung/monitor")
        self.recover(incident=hung, events=(builders.event("liveness.hung/monitor"),))
        self.assertEqual([("LIFECYCLE", "STOPPED_FAILED")], self.posted_events())

    def test_host_without_a_segment_fails_with_the_command(self):
        outcome = self.recover(incident=builders.incident(host="compute-9"))
        self.assertFails(outcome, "segment host create compute-9", retry=False)

    def test_host_in_maintenance_fails_with_the_command(self):
        self.masakari.on_maintenance = True
        self.assertFails(self.recover(), "--on_maintenance False", retry=False)
        self.assertEqual(1, len(self.posted_events()))

    def test_error_status_fails_with_the_message_of_masakari(self):
        for status, retry in ((400, False), (401, False), (403, False), (404, False)) + (
            (429, True),
            (500, True),
            (503, True),
        ):
            body = {"someError": {"code": status, "message": "so it is"}}
            self.masakari.answer = lambda asked, what=(status, body): what
            self.assertFails(self.recover(), f"returned HTTP status {status}", retry)
            self.assertIn("so it is", self.recover().message)

    def test_wrong_address_fails_without_retry(self):
        for body in (b"<html>what?</html>", {}):
            self.masakari.answer = lambda asked, body=body: (404, body)
            self.assertFails(self.recover(), "endpoint_override", retry=False)


class TestEnds(MasakariTest):
    def ended(self, *course: str) -> Outcome:
        self.masakari.course = list(course)
        return self.recover()

    def test_finished_notification_waits_for_the_instance(self):
        outcome = self.ended("new", "running", "running", "finished")
        self.assertEqual("wait", outcome.move)
        self.assertIn(f"{self.notification_id()} is finished", outcome.message)

    def test_ignored_notification_fails_without_retry(self):
        self.assertFails(self.ended("new", "ignored"), "paused or rescued", retry=False)

    def test_failed_notification_fails_with_retry(self):
        self.assertFails(self.ended("new", "running", "failed"), "is failed", retry=True)

    def test_notification_in_error_fails_with_retry(self):
        outcome = self.ended("new", "running", "error")
        self.assertFails(outcome, "is error: masakari repeats the workflow once", retry=True)

    def test_message_of_masakari_is_shown(self):
        self.masakari.course = ["new", "ignored"]

        def answer(asked):
            status, body = self.masakari.reply(asked)
            if "/notifications/" in asked.path:
                body["notification"]["message"] = "the segment HA is disabled."
            return status, body

        self.masakari.answer = answer
        self.assertFails(self.recover(), "the segment HA is disabled.", retry=False)

    def test_deleted_notification_fails_with_retry(self):
        def answer(asked):
            status, body = self.masakari.reply(asked)
            self.masakari.rows.clear()
            return status, body

        self.masakari.answer = answer
        self.assertFails(self.recover(), "no longer has", retry=True)


class TestAgain(MasakariTest):
    """Existing notifications are polled, none is posted twice, and no failure is lost."""

    def test_unfinished_notification_is_polled_by_the_next_attempt(self):
        self.masakari.course = ["new"] + ["running"] * 12 + ["finished"]
        began = time.monotonic()
        self.assertFails(self.recover(timeout=0.6), "has not finished", retry=True)
        self.assertLess(time.monotonic() - began, 5)
        outcome = self.recover(seconds=3, attempt=2)
        self.assertEqual("wait", outcome.move)
        self.assertIn(self.notification_id(), outcome.message)
        self.assertEqual(1, len(self.posted_events()))

    def test_repeated_workflow_of_masakari_is_polled(self):
        self.masakari.course = ["new", "error"] + ["error"] * 4 + ["running", "finished"]
        self.assertFails(self.recover(), "is error", retry=True)
        self.assertEqual("wait", self.recover(seconds=3, attempt=2).move)
        self.assertEqual(1, len(self.posted_events()))

    def test_endless_notification_ends_each_attempt(self):
        self.masakari.course = ["new", "running"]
        for attempt in (1, 2):
            outcome = self.recover(seconds=attempt, attempt=attempt, timeout=0.5)
            self.assertFails(outcome, "has not finished", retry=True)
        self.assertEqual(1, len(self.posted_events()))

    def test_failed_notification_is_posted_again_by_the_next_attempt(self):
        self.masakari.course = ["new", "failed"]
        self.assertFails(self.recover(), "is failed", retry=True)
        self.masakari.course = ["new", "finished"]
        self.assertEqual("wait", self.recover(seconds=200, attempt=2).move)
        self.assertEqual([("LIFECYCLE", "STOPPED_FAILED")] * 2, self.posted_events())

    def test_second_crash_within_three_minutes_is_posted_with_another_event(self):
        """masakari would reject the same event as a duplicate and leave the server down."""
        self.recover()
        later = builders.incident(opened_at=builders.AT + 60 * SECOND)
        self.assertEqual("wait", self.recover(seconds=60, incident=later).move)
        life = ("LIFECYCLE", "STOPPED_FAILED")
        self.assertEqual([life, life, ("IO_ERROR", "IO_ERROR_REPORT")], self.posted_events())
        self.assertEqual(["finished"] * 2, [row["status"] for row in self.masakari.rows])

    def test_fourth_crash_within_three_minutes_fails(self):
        for minute in range(3):
            at = builders.AT + minute * 50 * SECOND
            crash = builders.incident(opened_at=at)
            self.assertEqual("wait", self.recover(seconds=minute * 50, incident=crash).move)
        crash = builders.incident(opened_at=builders.AT + 150 * SECOND)
        outcome = self.recover(seconds=150, incident=crash)
        self.assertFails(outcome, "duplicate_notification_detection_interval", retry=False)
        self.assertEqual(3, len(self.masakari.rows))

    def test_notification_of_masakaris_monitor_is_polled(self):
        """The clock of the monitor's host may be late."""
        self.masakari.add(payload(), builders.AT - 2 * SECOND)
        self.assertEqual("wait", self.recover(seconds=1).move)
        self.assertEqual((1, 1), (len(self.posted_events()), len(self.masakari.rows)))

    def test_notification_of_another_server_is_not_polled(self):
        self.masakari.add(
            payload() | {"instance_uuid": str(uuid.uuid4())}, builders.AT, ["running"]
        )
        self.assertEqual("wait", self.recover(attempt=2).move)
        self.assertEqual(2, len(self.masakari.rows))

    def test_old_endless_notification_is_not_polled(self):
        self.masakari.add(payload(), builders.AT - 600 * SECOND, ["running"])
        self.assertEqual("wait", self.recover(attempt=2).move)
        self.assertEqual(2, len(self.masakari.rows))

    def test_takeover_polls_the_notification_of_the_dead_engine(self):
        for course in (["running", "finished"], ["finished"]):
            self.masakari.rows.clear()
            self.masakari.asked.clear()
            self.masakari.add(payload(), builders.AT, course)
            outcome = self.recover(taken_over=True)
            self.assertEqual("wait", outcome.move)
            self.assertIn(self.notification_id(), outcome.message)
            self.assertEqual([], self.posted_events())

    def test_lost_lease_posts_nothing(self):
        outcome = self.recover(lease=builders.HeldLease(left=0))
        self.assertFails(outcome, "the lease of the recovery is lost", retry=True)
        self.assertEqual([], self.masakari.requests("POST"))

    def test_lease_lost_after_a_rejection_posts_no_further_event(self):
        self.masakari.answer = lambda asked: (
            (409, {"conflictingRequest": {"code": 409, "message": "so it is"}})
            if asked.method == "POST"
            else self.masakari.reply(asked)
        )
        outcome = self.recover(lease=builders.HeldLease(left=1))
        self.assertFails(outcome, "the lease of the recovery is lost", retry=True)
        self.assertEqual(1, len(self.masakari.requests("POST")))

    def test_takeover_without_a_notification_posts_one(self):
        self.assertEqual("wait", self.recover(taken_over=True).move)
        self.assertEqual(1, len(self.posted_events()))

    def test_notification_is_found_on_a_later_page(self):
        self.masakari.add(payload(), builders.AT, ["running", "finished"])
        for _ in range(250):
            self.masakari.add(payload() | {"instance_uuid": str(uuid.uuid4())}, builders.AT)
        self.assertEqual("wait", self.recover(taken_over=True).move)
        self.assertEqual([], self.posted_events())

    def test_late_response_is_found_by_the_next_attempt(self):
        def answer(asked):
            answered = self.masakari.reply(asked)
            if asked.method == "POST":
                self.masakari.over.wait(3)
            return answered

        self.masakari.answer = answer
        self.assertFails(self.recover(timeout=0.5), "the request to ", retry=True)
        self.masakari.answer = self.masakari.reply
        self.assertEqual("wait", self.recover(seconds=2, attempt=2).move)
        self.assertEqual(1, len(self.posted_events()))


class TestTroubles(MasakariTest):
    def test_restart_of_masakari_does_not_end_the_polling(self):
        looks = itertools.count()

        def answer(asked):
            if asked.method == "GET" and next(looks) < 4:
                return 503, b"<html>later</html>"
            return self.masakari.reply(asked)

        self.masakari.answer = answer
        self.assertEqual("wait", self.recover().move)

    def test_unavailable_masakari_fails_at_the_deadline(self):
        self.masakari.answer = lambda asked: (
            self.masakari.reply(asked) if asked.method == "POST" else (500, {})
        )
        self.assertFails(self.recover(timeout=0.6), "HTTP status 500", retry=True)

    def test_hanging_masakari_fails_at_the_deadline(self):
        self.masakari.answer = self.masakari.hang
        began = time.monotonic()
        self.assertFails(self.recover(timeout=0.5), "the request to ", retry=True)
        self.assertLess(time.monotonic() - began, 5)

    def test_refused_connection_fails_with_retry(self):
        self.masakari.server.shutdown()
        self.masakari.server.server_close()
        self.assertFails(self.recover(), "failed: ConnectFailure", retry=True)

    def test_missing_configuration_fails_with_retry(self):
        driver = MasakariDriver(configuration.new([], files=[]), FakeAgents())
        self.assertFails(driver.recover(request()), "the request to ", retry=True)

    def test_invalid_response_fails_with_retry(self):
        for status, body in (
            (202, b""),
            (202, b"\xff\xfe"),
            (202, []),
            (202, {"notification": []}),
            (202, {"notification": {"notification_uuid": 7, "status": "new", "payload": {}}}),
            (202, {"notification": {"notification_uuid": "x", "status": "new"}}),
            (409, {"conflictingRequest": "so"}),
            (409, b"[" * 5000),
        ):
            self.masakari.answer = lambda asked, what=(status, body): what
            self.assertFails(self.recover(), "the request to ", retry=True)

    def test_invalid_notification_in_a_list_is_skipped(self):
        row = self.masakari.add(payload(), builders.AT, ["running", "finished"])
        broken = [None, 7, {}, row | {"payload": "x"}, row | {"generated_time": "yesterday"}]
        broken += [row | {"generated_time": None}, row | {"notification_uuid": None}]

        def answer(asked):
            status, body = self.masakari.reply(asked)
            if asked.path == "/notifications":
                body["notifications"] = broken + body["notifications"]
            return status, body

        self.masakari.answer = answer
        self.assertEqual("wait", self.recover(taken_over=True).move)

    def test_endless_list_fails_with_retry(self):
        row = self.masakari.add(payload() | {"instance_uuid": str(uuid.uuid4())}, builders.AT)
        self.masakari.answer = lambda asked: (200, {"notifications": [row] * 100})
        self.assertFails(
            self.recover(taken_over=True, timeout=60), "more than 100 pages", retry=True
        )

    def test_long_message_is_cut_and_printable(self):
        words = "a\x1b[31m\n" + "é" * 5000
        refusal = 500, {"computeFault": {"message": words}}
        self.masakari.answer = lambda asked: refusal
        message = self.recover().message
        self.assertTrue(message.isprintable())
        self.assertIn(": a [31m éé", message)
        self.assertLess(len(message), 500)


class TestCheck(MasakariTest):
    def test_check_of_a_working_masakari_returns_no_problem(self):
        self.assertEqual("", self.driver.check())
        self.assertEqual([], self.masakari.requests("POST"))

    def test_check_of_a_broken_masakari_returns_the_problem(self):
        refusal = {"forbidden": {"code": 403, "message": "Policy doesn't allow it."}}
        for answers, word in (
            ({"/segments": (200, {"segments": []})}, "masakari has no segment"),
            ({"/segments": (403, refusal)}, "lacks a role: Policy doesn't"),
            ({"/notifications": (404, {})}, "endpoint_override"),
            ({"/notifications": (200, b"<html>")}, "the request to "),
        ):
            self.masakari.answer = lambda asked, answers=answers: (
                answers.get(asked.path) or self.masakari.reply(asked)
            )
            self.assertIn(word, self.driver.check())


class TestTls(MasakariTest):
    def setUp(self) -> None:
        super().setUp()
        self.authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert("127.0.0.1").configure_cert(context)
        self.masakari = self.useFixture(Masakari(tls=context))

    def outcome(self, authority: trustme.CA | None) -> Outcome:
        options = {}
        if authority:
            options["cafile"] = f"{self.useFixture(fixtures.TempDir()).path}/ca.pem"
            authority.cert_pem.write_to_path(options["cafile"])
        return self.connect(self.masakari, **options).recover(request())

    def test_certificate_of_a_trusted_authority_is_accepted(self):
        self.assertEqual("wait", self.outcome(self.authority).move)

    def test_certificate_of_an_untrusted_authority_is_refused(self):
        for authority in (None, trustme.CA()):
            self.assertFails(self.outcome(authority), "SSL", retry=True)
        self.assertEqual([], self.masakari.asked)
