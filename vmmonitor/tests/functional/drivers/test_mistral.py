# SPDX-License-Identifier: Apache-2.0
"""Test the mistral driver: executions, responses, and that each is started once."""

import dataclasses
import itertools
import ssl
import threading
import time
import uuid
from typing import Any

import fixtures
import testtools
import trustme

from vmmonitor import conf as configuration
from vmmonitor.drivers.mistral import MAX_EVENTS, MistralDriver
from vmmonitor.model.errors import InvalidRules, Retriable
from vmmonitor.model.recovery import Outcome, RecoveryRequest
from vmmonitor.testing import builders
from vmmonitor.testing.agents import LOST, FakeAgents
from vmmonitor.tests.fixtures.mistral import Mistral, fault, id_of

RECOVERY_ID = builders.request().recovery.recovery_id
OTHER_ID = "b6d9f0f7-1f3c-4c3a-9d92-6f6a0a9f7e11"
WRONG = (
    "Failure caused by error in tasks: reboot\n\n  reboot [task_ex_id=d5db9419] -> The action "
    "raised an exception [action=nova.servers_reboot, msg='Conflict']\n"
)


def request(attempt: int = 1, timeout: float = 5.0, **changes: Any) -> RecoveryRequest:
    """Return a request; each attempt has its own recovery."""
    made = builders.request(timeout=timeout, **changes)
    recovery_id = RECOVERY_ID if attempt == 1 else OTHER_ID
    recovery = dataclasses.replace(made.recovery, attempt=attempt, recovery_id=recovery_id)
    return dataclasses.replace(made, recovery=recovery)


class MistralTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.useFixture(fixtures.EnvironmentVariable("NO_PROXY", "127.0.0.1"))
        self.mistral = self.useFixture(Mistral())
        self.driver = self.connect(self.mistral)

    def connect(self, mistral: Mistral, **options: Any) -> MistralDriver:
        conf = configuration.new([], files=[])
        conf.set_override("poll_interval", 0.1, "mistral")
        conf.set_override("workflow", "recover", "mistral")
        driver = MistralDriver(conf, FakeAgents())
        mistral.serve(conf, "mistral")
        for name, value in options.items():
            conf.set_override(name, value, "mistral")
        return driver

    def recover(self, *args: Any, **changes: Any) -> Outcome:
        return self.driver.recover(request(*args, **changes))

    def started(self) -> list[dict[str, Any]]:
        """Return the bodies of the requests for executions."""
        return [asked.body for asked in self.mistral.requests("POST")]

    def left_behind(self, *course: str, **changes: str) -> None:
        """Add the execution of this recovery, with its further states."""
        wanted = {
            "id": RECOVERY_ID,
            "workflow_id": id_of("recover"),
            "description": f"vmmonitor incident {builders.incident().incident_id}",
        }
        self.mistral.add(wanted | changes, course)

    def assertFails(self, outcome: Outcome, word: str, retry: bool) -> None:
        self.assertEqual(("fail", retry), (outcome.move, outcome.retry), outcome.message)
        self.assertIn(word, outcome.message)
        self.assertLess(len(outcome.message), 1000)


class TestLostProcess(MistralTest):
    """A workflow may have nova start the server, beside a process that libvirt has lost."""

    def test_nothing_is_started_beside_a_process_that_libvirt_has_lost(self):
        self.driver.agents = FakeAgents(inspection=LOST)
        self.assertFails(self.recover(), "libvirt does not manage it", retry=True)
        self.assertEqual([], self.started())

    def test_workflow_that_may_fence_runs_if_the_agent_does_not_answer(self):
        self.driver.agents = FakeAgents(inspection=Retriable("no answer"))
        self.recover()
        self.assertEqual(1, len(self.started()))


class TestStarting(MistralTest):
    def test_execution_is_started_with_the_documented_input(self):
        self.recover()
        (body,) = self.started()
        given = body.pop("input")
        self.assertEqual(
            {
                "id": RECOVERY_ID,
                "workflow_id": id_of("recover"),
                "description": f"vmmonitor incident {builders.incident().incident_id}",
            },
            body,
        )
        self.assertEqual({"vmmonitor", "instance_uuid", "host"}, set(given))
        self.assertEqual((builders.UUID, "compute-1"), (given["instance_uuid"], given["host"]))
        told = given["vmmonitor"]
        self.assertEqual({"version", "incident", "recovery", "events"}, set(told))
        self.assertEqual(1, told["version"])
        self.assertEqual("lifecycle.stopped/failed", told["incident"]["cause"])
        self.assertEqual("web", told["incident"]["instance"]["name"])
        self.assertEqual(RECOVERY_ID, told["recovery"]["recovery_id"])
        self.assertEqual([builders.AT], [event["occurred_at"] for event in told["events"]])

    def test_input_contains_the_newest_events_oldest_first(self):
        events = [
            builders.event("io_error/report", occurred_at=builders.AT + n) for n in range(30)
        ]
        self.recover(events=events)
        (body,) = self.started()
        told = [
            event["occurred_at"] - builders.AT for event in body["input"]["vmmonitor"]["events"]
        ]
        self.assertEqual(list(range(30 - MAX_EVENTS, 30)), told)

    def test_input_contains_only_declared_names(self):
        for inputs, given in (
            (["instance_uuid"], {"instance_uuid"}),
            ([{"host": None}], {"host"}),
            ([], set()),
        ):
            self.mistral.executions.clear()
            self.mistral.inputs["recover"] = inputs
            self.assertEqual("wait", self.recover().move)
            self.assertEqual(given, set(self.started()[-1]["input"]))

    def test_workflow_with_an_unknown_required_input_fails(self):
        self.mistral.inputs["recover"] = ["instance_uuid", "colour", "shape"]
        self.assertFails(self.recover(), "does not provide: colour, shape", retry=False)
        self.assertEqual([], self.started())

    def test_workflow_of_the_step_replaces_the_option(self):
        self.mistral.inputs["move away"] = ["instance_uuid"]
        self.assertEqual("wait", self.recover(options={"workflow": "move away"}).move)
        self.assertEqual(id_of("move away"), self.started()[0]["workflow_id"])

    def test_missing_workflow_fails_without_retry(self):
        outcome = self.recover(options={"workflow": "absent"})
        self.assertFails(outcome, "Workflow not found [workflow_identifier=absent", retry=False)

    def test_recovery_without_a_workflow_fails(self):
        driver = self.connect(self.mistral, workflow="")
        self.assertFails(driver.recover(request()), "[mistral] workflow", retry=False)
        self.assertEqual([], self.mistral.asked)

    def test_error_status_fails_with_the_message_of_mistral(self):
        for status, retry in ((400, False), (403, False), (409, False), (429, True), (503, True)):
            self.mistral.answer = lambda asked, status=status: (
                fault(status, "so it is") if asked.method == "POST" else self.mistral.reply(asked)
            )
            self.assertFails(self.recover(), f"returned HTTP status {status}", retry)
            self.assertIn("so it is", self.recover().message)


class TestOptions(testtools.TestCase):
    def test_option_workflow_is_accepted(self):
        for options in ({}, {"workflow": "recover"}):
            MistralDriver.check_options(options)

    def test_other_option_is_refused_by_name(self):
        for options, name in (
            ({"workflow": ""}, "workflow"),
            ({"workflow": 7}, "workflow"),
            ({"workflow": None}, "workflow"),
            ({"workflow": "x" * 256}, "workflow"),
            ({"workflow": "x", "work_flow": "y"}, "work_flow"),
        ):
            error = self.assertRaises(InvalidRules, MistralDriver.check_options, options)
            self.assertEqual(name, error.facts["option"])


class TestEnds(MistralTest):
    def ended(self, *course: str) -> Outcome:
        self.mistral.course = list(course)
        return self.recover()

    def test_successful_execution_waits_for_the_instance(self):
        outcome = self.ended("RUNNING", "RUNNING", "SUCCESS")
        self.assertEqual("wait", outcome.move)
        self.assertIn(f"{RECOVERY_ID} of workflow recover is SUCCESS", outcome.message)

    def test_failed_execution_fails_with_retry(self):
        self.mistral.state_info = WRONG
        outcome = self.ended("RUNNING", "ERROR")
        self.assertFails(outcome, "msg='Conflict'", retry=True)
        self.assertTrue(outcome.message.isprintable())

    def test_cancelled_execution_fails_without_retry(self):
        self.mistral.state_info = "not today"
        self.assertFails(self.ended("RUNNING", "CANCELLED"), "CANCELLED: not today", retry=False)

    def test_deleted_execution_fails_with_retry(self):
        self.mistral.answer = lambda asked: (
            fault(404, "WorkflowExecution not found [id=x]")
            if asked.path.startswith("/executions/")
            else self.mistral.reply(asked)
        )
        self.assertFails(self.recover(), "no longer has", retry=True)


class TestAgain(MistralTest):
    """One execution per recovery, for repeated requests and from several engines."""

    def test_unfinished_execution_is_polled_by_the_next_attempt(self):
        for waits in ("RUNNING", "PAUSED", "IDLE"):
            self.mistral.executions.clear()
            self.mistral.asked.clear()
            self.mistral.course = ["RUNNING"] + [waits] * 12 + ["SUCCESS"]
            began = time.monotonic()
            self.assertFails(self.recover(timeout=0.6), f"its state is {waits}", retry=True)
            self.assertLess(time.monotonic() - began, 5)
            outcome = self.recover(attempt=2)
            self.assertEqual("wait", outcome.move)
            self.assertIn(RECOVERY_ID, outcome.message)
            self.assertEqual(1, len(self.started()))

    def test_failed_execution_is_started_again_by_the_next_attempt(self):
        self.mistral.course = ["RUNNING", "ERROR"]
        self.assertFails(self.recover(), "is ERROR", retry=True)
        self.mistral.course = ["RUNNING", "SUCCESS"]
        self.assertEqual("wait", self.recover(attempt=2).move)
        self.assertEqual([RECOVERY_ID, OTHER_ID], [body["id"] for body in self.started()])

    def test_takeover_starts_no_second_execution(self):
        for course, move in ((("RUNNING", "SUCCESS"), "wait"), (("ERROR",), "fail")):
            self.left_behind(*course)
            self.assertEqual(move, self.recover(taken_over=True).move)
            self.assertEqual(1, len(self.mistral.executions))

    def test_lost_lease_starts_nothing(self):
        outcome = self.recover(lease=builders.HeldLease(left=0))
        self.assertFails(outcome, "the lease of the recovery is lost", retry=True)
        self.assertEqual([], self.started())

    def test_lease_lost_during_the_execution_ends_the_polling(self):
        self.mistral.course = ["RUNNING"]
        outcome = self.recover(timeout=60, lease=builders.HeldLease(left=3))
        self.assertFails(outcome, "the lease of the recovery is lost", retry=True)

    def test_concurrent_requests_start_one_execution(self):
        outcomes: list[Outcome] = []
        threads = [
            threading.Thread(target=lambda: outcomes.append(self.recover())) for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        self.assertEqual(["wait"] * 6, [outcome.move for outcome in outcomes])
        self.assertEqual([RECOVERY_ID], list(self.mistral.executions))

    def test_execution_of_another_incident_is_not_polled(self):
        self.left_behind("RUNNING", id=str(uuid.uuid4()), description="vmmonitor incident other")
        self.left_behind("RUNNING", id=str(uuid.uuid4()), workflow_id=id_of("another"))
        self.assertEqual("wait", self.recover(attempt=2).move)
        self.assertIn(OTHER_ID, self.mistral.executions)

    def test_late_response_is_found_by_the_next_attempt(self):
        def answer(asked):
            answered = self.mistral.reply(asked)
            if asked.method == "POST":
                self.mistral.over.wait(3)
            return answered

        self.mistral.answer = answer
        self.assertFails(self.recover(timeout=0.5), "the request to ", retry=True)
        self.mistral.answer = self.mistral.reply
        self.assertEqual("wait", self.recover(attempt=2).move)
        self.assertEqual([RECOVERY_ID], list(self.mistral.executions))


class TestTroubles(MistralTest):
    def test_restart_of_mistral_does_not_end_the_polling(self):
        looks = itertools.count()

        def answer(asked):
            if asked.path.startswith("/executions/") and next(looks) < 4:
                return 503, b"<html>later</html>"
            return self.mistral.reply(asked)

        self.mistral.answer = answer
        self.assertEqual("wait", self.recover().move)

    def test_hanging_mistral_fails_at_the_deadline(self):
        self.mistral.answer = self.mistral.hang
        began = time.monotonic()
        self.assertFails(self.recover(timeout=0.5), "the request to ", retry=True)
        self.assertLess(time.monotonic() - began, 5)

    def test_refused_connection_fails_with_retry(self):
        self.mistral.server.shutdown()
        self.mistral.server.server_close()
        self.assertFails(self.recover(), "failed: ConnectFailure", retry=True)

    def test_invalid_response_fails_with_retry(self):
        workflow = {"id": "x", "name": "recover"}
        for path, body in (
            ("/workflows/recover", b""),
            ("/workflows/recover", b"\xff\xfe"),
            ("/workflows/recover", []),
            ("/workflows/recover", workflow),
            ("/workflows/recover", workflow | {"interface": "{"}),
            ("/workflows/recover", workflow | {"interface": "[]"}),
            ("/workflows/recover", workflow | {"interface": {"input": 7}}),
            ("/workflows/recover", {"id": 7, "name": 7, "interface": {}}),
            ("/executions", {"executions": 7}),
            ("/executions", {"executions": [7]}),
            ("/executions", {"executions": [{"id": "x"}]}),
            (f"/executions/{RECOVERY_ID}", {"id": "x", "workflow_id": "y", "state": None}),
        ):
            self.mistral.answer = lambda asked, path=path, body=body: (
                (200, body) if asked.path == path else self.mistral.reply(asked)
            )
            self.assertFails(self.recover(timeout=0.4), "the request to ", retry=True)

    def test_workflow_name_is_quoted_in_the_path(self):
        self.recover(options={"workflow": "../executions?x=y"})
        self.assertEqual("/workflows/..%2Fexecutions%3Fx%3Dy", self.mistral.asked[0].path)


class TestCheck(MistralTest):
    def test_check_of_a_working_mistral_returns_no_problem(self):
        self.assertEqual("", self.driver.check())
        self.assertEqual("", self.connect(self.mistral, workflow="").check())
        self.assertEqual([], self.mistral.requests("POST"))

    def test_check_of_a_broken_mistral_returns_the_problem(self):
        absent = self.connect(self.mistral, workflow="absent")
        self.assertIn(
            "workflow absent: mistral returned HTTP status 404: Workflow not found", absent.check()
        )
        self.mistral.inputs["recover"] = ["colour"]
        self.assertIn("does not provide: colour", self.driver.check())
        self.mistral.answer = lambda asked: (401, {"error": {"message": "who?"}})
        self.assertIn("account of [mistral]: who?", self.driver.check())
        self.mistral.answer = lambda asked: (200, b"<html>")
        self.assertIn("the request to ", self.driver.check())


class TestTls(MistralTest):
    def test_certificate_of_the_configured_authority_is_accepted(self):
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        mistral = self.useFixture(Mistral(tls=context))
        self.assertFails(self.connect(mistral).recover(request()), "SSL", retry=True)
        path = f"{self.useFixture(fixtures.TempDir()).path}/ca.pem"
        authority.cert_pem.write_to_path(path)
        self.assertEqual("wait", self.connect(mistral, cafile=path).recover(request()).move)
