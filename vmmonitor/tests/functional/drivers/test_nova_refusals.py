# SPDX-License-Identifier: Apache-2.0
"""Test the nova driver: rejections, invalid responses, options, and the health check."""

from typing import Any

import testtools

from vmmonitor import conf as configuration
from vmmonitor.drivers.nova import NovaDriver
from vmmonitor.model.errors import InvalidRules
from vmmonitor.model.recovery import Outcome
from vmmonitor.openstack import nova
from vmmonitor.openstack.nova import VM_STATE as STATE
from vmmonitor.testing.builders import UUID
from vmmonitor.tests.fixtures.openstack import USER_ID
from vmmonitor.tests.functional.drivers.test_nova import (
    ACT,
    ACTIONS,
    COMPUTE,
    REBOOT,
    SERVER,
    DriverCase,
    action,
)
from vmmonitor.tests.unit.expectation.test_nova import server

CONFLICT = (409, {"conflictingRequest": {"code": 409, "message": "it is in task_state deleting"}})
FORBIDDEN = (403, {"forbidden": {"code": 403, "message": "Policy doesn't allow it"}})


class RefusedTest(DriverCase):
    def refused(self, status: int, body: Any, **options: Any) -> Outcome:
        self.cloud.tell(ACT, body, status)
        return self.recover(**options)

    def test_conflict_fails_with_retry(self):
        outcome = self.refused(*CONFLICT)
        self.assertEqual(("fail", True), (outcome.move, outcome.retry))
        self.assertEqual(
            "nova rejected the request with HTTP status 409: it is in task_state deleting",
            outcome.message,
        )

    def test_forbidden_action_fails_without_retry(self):
        outcome = self.refused(*FORBIDDEN)
        self.assertEqual(("fail", False), (outcome.move, outcome.retry))
        self.assertIn("needs the role admin", outcome.message)
        self.assertIn("Policy doesn't allow it", outcome.message)

    def test_bad_request_fails_without_retry(self):
        outcome = self.refused(400, {"badRequest": {"code": 400, "message": "x" * 5000}})
        self.assertEqual(("fail", False), (outcome.move, outcome.retry))
        self.assertLess(len(outcome.message), 400)

    def test_unexpected_status_of_an_action_fails_with_retry(self):
        for status, body in (
            *((500, {"computeFault": {"message": "?"}}), (503, b""), (502, b"<html>")),
            *((404, b"<html>"), (400, b"bad"), (409, {}), (403, {"forbidden": "?"})),
            *((200, b"\xff\xfe"), (302, b"")),
        ):
            outcome = self.refused(status, body)
            self.assertEqual(("fail", True), (outcome.move, outcome.retry), (status, outcome))
            self.assertLess(len(outcome.message), 300)

    def test_invalid_response_to_a_read_fails_with_retry(self):
        for body in ([], {}, {"server": None}, b"", b"\xff", {"server": {}}):
            self.cloud.tell(SERVER, body)
            self.assert_not(self.recover(), "nova")
        self.has(server(**{STATE: "stopped"}))
        for body in ({"instanceActions": [[], 7, None]}, {"instanceActions": [{"action": 7}]}):
            self.cloud.tell(ACTIONS, body)
            self.assert_not(self.recover(), "stopped in nova", "skip")
        self.has(server())
        odd = {"action": "reboot", "user_id": USER_ID, "start_time": ["?"], "updated_at": 7}
        self.did(odd)
        self.assert_done(self.recover(taken_over=True), REBOOT)
        self.has(server(host_status="UNKNOWN"))
        self.cloud.asked.clear()
        for body in ({}, {"services": {}}, b"<html>"):
            self.cloud.tell(COMPUTE, body)
            self.assert_not(self.recover(), "the request to nova failed")

    def test_check_with_a_refused_login_returns_the_problem(self):
        self.cloud.keystone_status = 401
        self.assert_not(self.recover(), "the request to nova failed")

    def test_hanging_nova_fails_at_the_deadline(self):
        self.cloud.go_on.clear()
        self.assert_not(self.recover(timeout=1), "the request to nova failed")


class CheckTest(DriverCase):
    def setUp(self) -> None:
        super().setUp()
        self.cloud.tell("GET /v2.1/servers/detail", {"servers": [server()]})

    def test_check_of_a_working_nova_returns_no_problem(self):
        self.assertEqual("", self.driver.check())
        self.assertEqual([], self.cloud.orders())
        self.cloud.tell("GET /v2.1/servers/detail", {"servers": []})
        self.assertEqual("", self.driver.check())

    def test_check_with_a_refused_login_returns_the_problem(self):
        self.cloud.keystone_status = 401
        self.assertIn("Unauthorized", self.driver.check())

    def test_check_without_nova_in_the_catalog_returns_the_problem(self):
        self.conf.set_override("service_type", "weather", "nova")
        self.assertIn("weather", self.driver.check())

    def test_check_without_the_role_admin_returns_the_problem(self):
        self.cloud.tell("GET /v2.1/servers/detail", *reversed(FORBIDDEN))
        self.assertIn("HTTP status 403 for /servers/detail", self.driver.check())
        self.cloud.tell("GET /v2.1/servers/detail", {"servers": [{"id": UUID}]})
        self.assertIn("the role admin is missing", self.driver.check())
        self.cloud.tell("GET /v2.1/servers/detail", {"servers": []})
        self.cloud.tell(COMPUTE, *reversed(FORBIDDEN))
        self.assertIn("HTTP status 403 for /os-services", self.driver.check())

    def test_check_without_configuration_returns_the_problem(self):
        conf = configuration.new([], files=[])
        self.assertIn("[nova] auth_type must be set", NovaDriver(conf, self.agents).check())


class AccountTest(DriverCase):
    """Another program or a person may use the account of vmmonitor."""

    def setUp(self) -> None:
        super().setUp()
        self.cloud.tell("GET /v2.1/servers/detail", {"servers": [server(id=UUID)]})

    def test_separate_account_gives_no_warning(self):
        self.did(action("reboot"), action("stop"), action("pause", by="alice"))
        self.assertEqual([], self.driver.find_warnings())

    def test_account_that_requests_other_actions_gives_a_warning(self):
        self.did(action("reboot"), action("live-migration"), action("create"))
        (warning,) = self.driver.find_warnings()
        self.assertIn(f"requested live-migration of server {UUID}", warning)

    def test_account_of_a_service_gives_a_warning(self):
        self.conf.set_override("username", "nova", "nova")
        (warning,) = self.driver.find_warnings()
        self.assertIn("the user of [nova] is nova", warning)

    def test_unavailable_nova_gives_a_warning(self):
        self.cloud.tell(ACTIONS, *reversed(FORBIDDEN))
        (warning,) = self.driver.find_warnings()
        self.assertIn("the request to nova failed", warning)


class OptionsTest(testtools.TestCase):
    def test_known_options_are_accepted(self):
        for options in (
            *({}, {"method": "auto"}, {"method": "evacuate", "disable_compute": False}),
            *({"method": "hard_reboot"}, {"method": "stop_start"}, {"method": "resume"}),
        ):
            NovaDriver.check_options(options)

    def test_unknown_options_are_refused(self):
        for options, words in (
            ({"method": "reboot"}, "'reboot' is not one of auto, hard_reboot.*'method'"),
            ({"method": ["evacuate"]}, "is not one of auto"),
            ({"disable_compute": "yes"}, "true or false.*'disable_compute'"),
            ({"host": "compute-2"}, "must be method or disable_compute.*'host'"),
        ):
            with self.assertRaisesRegex(InvalidRules, words):
                NovaDriver.check_options(options)


class OneSessionTest(testtools.TestCase):
    def test_users_of_one_configuration_share_one_client(self):
        conf = configuration.new([], files=[])
        one = nova.shared_api(conf)
        self.assertIs(one, nova.shared_api(conf))
        self.assertIsNot(one, nova.shared_api(configuration.new([], files=[])))
