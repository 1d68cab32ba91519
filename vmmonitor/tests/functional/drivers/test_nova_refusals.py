# SPDX-License-Identifier: Apache-2.0
"""What the nova driver makes of refusals, of what is no answer, and of options; its check."""

from typing import Any

import testtools

from vmmonitor import conf as configuration
from vmmonitor.drivers.nova import NovaDriver
from vmmonitor.model.errors import InvalidRules
from vmmonitor.model.recovery import Outcome
from vmmonitor.openstack import nova
from vmmonitor.openstack.nova import STATE
from vmmonitor.testing.builders import UUID
from vmmonitor.tests.fixtures.openstack import USER_ID
from vmmonitor.tests.functional.drivers.test_nova import (
    ACT,
    ACTIONS,
    COMPUTE,
    REBOOT,
    SERVER,
    DriverCase,
)
from vmmonitor.tests.unit.expectation.test_nova import server

CONFLICT = (409, {"conflictingRequest": {"code": 409, "message": "it is in task_state deleting"}})
FORBIDDEN = (403, {"forbidden": {"code": 403, "message": "Policy doesn't allow it"}})


class RefusedTest(DriverCase):
    def refused(self, status: int, body: Any, **options: Any) -> Outcome:
        self.cloud.tell(ACT, body, status)
        return self.recover(**options)

    def test_a_conflict_passes(self):
        outcome = self.refused(*CONFLICT)
        self.assertEqual(("fail", True), (outcome.move, outcome.retry))
        self.assertEqual("nova answers 409: it is in task_state deleting", outcome.message)

    def test_it_is_not_allowed(self):
        outcome = self.refused(*FORBIDDEN)
        self.assertEqual(("fail", False), (outcome.move, outcome.retry))
        self.assertIn("needs the role admin", outcome.message)
        self.assertIn("Policy doesn't allow it", outcome.message)

    def test_it_makes_no_sense_to_nova(self):
        outcome = self.refused(400, {"badRequest": {"code": 400, "message": "x" * 5000}})
        self.assertEqual(("fail", False), (outcome.move, outcome.retry))
        self.assertLess(len(outcome.message), 400)

    def test_what_is_no_answer(self):
        for status, body in (
            *((500, {"computeFault": {"message": "?"}}), (503, b""), (502, b"<html>")),
            *((404, b"<html>"), (400, b"bad"), (409, {}), (403, {"forbidden": "?"})),
            *((200, b"\xff\xfe"), (302, b"")),
        ):
            outcome = self.refused(status, body)
            self.assertEqual(("fail", True), (outcome.move, outcome.retry), (status, outcome))
            self.assertLess(len(outcome.message), 300)

    def test_hostile_answers_to_what_is_asked_first(self):
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
            self.assert_not(self.recover(), "nova cannot be asked")

    def test_keystone_refuses(self):
        self.cloud.keystone_status = 401
        self.assert_not(self.recover(), "nova cannot be asked")

    def test_it_hangs(self):
        self.cloud.go_on.clear()
        self.assert_not(self.recover(timeout=1), "nova cannot be asked")


class CheckTest(DriverCase):
    def setUp(self) -> None:
        super().setUp()
        self.cloud.tell("GET /v2.1/servers/detail", {"servers": [server()]})

    def test_all_is_well(self):
        self.assertEqual("", self.driver.check())
        self.assertEqual([], self.cloud.orders())
        self.cloud.tell("GET /v2.1/servers/detail", {"servers": []})
        self.assertEqual("", self.driver.check())

    def test_keystone_refuses(self):
        self.cloud.keystone_status = 401
        self.assertIn("Unauthorized", self.driver.check())

    def test_no_nova_in_the_catalog(self):
        self.conf.set_override("service_type", "weather", "nova")
        self.assertIn("weather", self.driver.check())

    def test_not_allowed_to_see_all(self):
        self.cloud.tell("GET /v2.1/servers/detail", *reversed(FORBIDDEN))
        self.assertIn("it answers 403 to /servers/detail", self.driver.check())
        self.cloud.tell("GET /v2.1/servers/detail", {"servers": [{"id": UUID}]})
        self.assertIn("no administrator", self.driver.check())
        self.cloud.tell("GET /v2.1/servers/detail", {"servers": []})
        self.cloud.tell(COMPUTE, *reversed(FORBIDDEN))
        self.assertIn("it answers 403 to /os-services", self.driver.check())

    def test_nothing_is_configured(self):
        conf = configuration.new([], files=[])
        self.assertIn("cannot be asked", NovaDriver(conf, self.ask_agent).check())


class OptionsTest(testtools.TestCase):
    def test_known(self):
        for options in (
            *({}, {"method": "auto"}, {"method": "evacuate", "disable_compute": False}),
            *({"method": "hard_reboot"}, {"method": "stop_start"}, {"method": "resume"}),
        ):
            NovaDriver.check_options(options)

    def test_unknown(self):
        for options, words in (
            ({"method": "reboot"}, "'reboot' is not one of auto, hard_reboot.*'method'"),
            ({"method": ["evacuate"]}, "is not one of auto"),
            ({"disable_compute": "yes"}, "true or false.*'disable_compute'"),
            ({"host": "compute-2"}, "must be method or disable_compute.*'host'"),
        ):
            with self.assertRaisesRegex(InvalidRules, words):
                NovaDriver.check_options(options)


class OneSessionTest(testtools.TestCase):
    def test_whoever_asks_by_one_configuration_shares_it(self):
        conf = configuration.new([], files=[])
        one = nova.connection(conf)
        self.assertIs(one, nova.connection(conf))
        self.assertIsNot(one, nova.connection(configuration.new([], files=[])))
