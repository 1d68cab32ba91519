# SPDX-License-Identifier: Apache-2.0
"""Test the requests of the nova expectation to nova and glance over real HTTP."""

import dataclasses
from typing import Any

import testtools

from vmmonitor import conf as configuration
from vmmonitor.drivers.nova import NovaDriver
from vmmonitor.expectation.nova import NovaExpectation
from vmmonitor.model.incident import Verdict, VerdictKind
from vmmonitor.testing import builders
from vmmonitor.testing.builders import UUID
from vmmonitor.tests.fixtures.openstack import Cloud
from vmmonitor.tests.unit.expectation.test_nova import RECORDED, server

SERVER = f"/v2.1/servers/{UUID}"
ACTIONS = f"{SERVER}/os-instance-actions"
IMAGE = "/image/v2/images/image-1"
AGGREGATES = "/v2.1/os-aggregates"
SERVICES = "/v2.1/os-services"
NO_IMAGE = b"<html><head><title>404 Not Found</title></head></html>"


class ExpectationTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.cloud = self.useFixture(Cloud())
        self.conf = configuration.new([], files=[])
        self.expectation = NovaExpectation(self.conf)
        self.cloud.configure(self.conf)
        self.shows(image={"id": "image-1"}, metadata={})
        self.tell(IMAGE, {"id": "image-1", "recover": "false"})
        self.tell(AGGREGATES, {"aggregates": []})

    def tell(self, path: str, body: Any, status: int = 200) -> None:
        self.cloud.tell(f"GET {path}", body, status)

    def shows(self, **changes: Any) -> None:
        self.tell(SERVER, {"server": server(**changes)})

    def set(self, **options: Any) -> None:
        for name, value in options.items():
            self.conf.set_override(name, value, "nova")

    def judge(self, host: str = builders.HOST) -> Verdict:
        events = [builders.event("lifecycle.stopped/failed")]
        return self.expectation.judge(builders.incident(host=host), events)

    def assert_word(self, word: str, because: str = "", **given: Any) -> None:
        verdict = self.judge(**given)
        self.assertEqual(word, verdict.kind, verdict)
        self.assertIn(because, verdict.reason)

    def asked(self) -> list[str]:
        """Return the paths that were requested, without queries, and clear the list."""
        asked = [path.partition("?")[0] for _, path, _ in self.cloud.asked]
        self.cloud.asked.clear()
        return asked

    def test_judge_sends_one_request(self):
        self.assert_word(VerdictKind.FAILED)
        self.assertEqual([SERVER], self.asked())

    def test_image_setting_is_read_once_from_glance(self):
        """glance uses the credentials of nova."""
        self.set(image_key="recover")
        self.assert_word(VerdictKind.PLANNED, "its image image-1 has recover = false")
        self.assertEqual([SERVER, IMAGE], self.asked())
        self.judge()
        self.assertEqual([SERVER], self.asked())

    def test_missing_image_has_no_setting(self):
        self.set(image_key="recover")
        self.tell(IMAGE, NO_IMAGE, 404)
        self.assert_word(VerdictKind.FAILED)

    def test_unavailable_glance_makes_the_verdict_unknown(self):
        self.set(image_key="recover")
        for status, body in ((500, {}), (403, {}), (200, b"\xff"), (503, b"<html>")):
            self.tell(IMAGE, body, status)
            self.assert_word(VerdictKind.UNKNOWN, "the request to glance failed")

    def test_aggregate_setting_is_read_once(self):
        self.set(aggregate_key="recover")
        told = {"name": "test", "hosts": [builders.HOST], "metadata": {"recover": "false"}}
        self.tell(AGGREGATES, {"aggregates": [None, told]})
        self.assert_word(VerdictKind.PLANNED, "host aggregate test has recover = false")
        self.judge()
        self.assertEqual([SERVER, AGGREGATES, SERVER], self.asked())

    def test_unavailable_aggregates_make_the_verdict_unknown(self):
        self.set(aggregate_key="recover")
        for status, body in ((403, {"forbidden": {}}), (200, {}), (200, {"aggregates": {}})):
            self.tell(AGGREGATES, body, status)
            self.assert_word(VerdictKind.UNKNOWN, "the request to nova failed")

    def test_wrong_host_ends_the_requests(self):
        self.assert_word(VerdictKind.PLANNED, "not on forged", host="forged")
        self.assertEqual([SERVER], self.asked())

    def test_disabled_host_mutes_the_verdict(self):
        self.shows(host_status="MAINTENANCE")
        service = {
            "host": builders.HOST,
            "status": "disabled",
            "disabled_reason": "new memory",
        }
        self.tell(SERVICES, {"services": [{"host": "compute-2"}, service]})
        self.assert_word(VerdictKind.MUTED, "(new memory)")
        self.judge()
        self.assertEqual([SERVER, SERVICES, SERVER], self.asked())

    def test_successful_action_makes_the_server_active(self):
        recorded = RECORDED["actions, stopped by a user"]["instanceActions"][1:]
        self.tell(ACTIONS, {"instanceActions": recorded})
        request_id = recorded[0]["request_id"]
        events = [{"event": "compute_reboot_instance", "result": "Success"}]
        self.tell(f"{ACTIONS}/{request_id}", {"instanceAction": {"events": events}})
        recovery = dataclasses.replace(builders.request().recovery, driver="nova")
        self.assertTrue(self.expectation.is_active(recovery))
        self.assertEqual([ACTIONS, SERVER, f"{ACTIONS}/{request_id}"], self.asked())
        for body in ({}, {"instanceAction": {}}, {"instanceAction": {"events": [None]}}, b"?"):
            self.tell(f"{ACTIONS}/{request_id}", body)
            self.assertFalse(self.expectation.is_active(recovery))

    def test_expectation_and_driver_share_one_client(self):
        driver = NovaDriver(self.conf, lambda *_: {})
        self.assertIs(self.expectation._nova, driver._nova)
