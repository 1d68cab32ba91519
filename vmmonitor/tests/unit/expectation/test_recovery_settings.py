# SPDX-License-Identifier: Apache-2.0
from typing import Any

import testtools

from vmmonitor import conf as configuration
from vmmonitor.expectation.recovery_settings import RecoverySettings
from vmmonitor.model.errors import Retriable
from vmmonitor.tests.unit.expectation.test_nova import server

PROJECT = server()["tenant_id"]


class FakeNova:
    def __init__(self) -> None:
        self.told: Any = []
        self.asked = 0

    def list_aggregates(self) -> Any:
        self.asked += 1
        if isinstance(self.told, Exception):
            raise self.told
        return self.told


class FakeGlance:
    def __init__(self) -> None:
        self.told: Any = {}
        self.asked: list[str] = []

    def get_image(self, image_id: str) -> Any:
        self.asked.append(image_id)
        if isinstance(self.told, Exception):
            raise self.told
        return self.told


class RecoverySettingsTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.conf = configuration.new([], files=[])
        self.nova, self.glance = FakeNova(), FakeGlance()
        self.settings = RecoverySettings(self.conf, self.nova, self.glance)
        self.server = server(metadata={}, image={"id": "image-1"})

    def set(self, **options: Any) -> None:
        for name, value in options.items():
            self.conf.set_override(name, value, "nova")

    def flavor(self, word: str | None) -> None:
        specs = {} if word is None else {"vmmonitor:recover": word}
        self.server["flavor"] = {"original_name": "m1", "extra_specs": specs}

    def aggregate(self, *words: str, hosts: Any = ("compute-1",)) -> None:
        self.nova.told = [
            {"name": f"rack-{number}", "hosts": list(hosts), "metadata": {"recover": word}}
            for number, word in enumerate(words)
        ]

    def assert_said(self, wanted: bool, because: str) -> None:
        said, who = self.settings.wants_recovery(self.server, "compute-1")
        self.assertEqual((wanted, because), (said, who))

    def test_first_setting_decides(self):
        """From the last to the first: each is overruled by the next."""
        self.set(recover_by_default=False, image_key="recover", aggregate_key="recover")
        self.assert_said(False, "no setting requests recovery")
        self.set(recover_projects=[PROJECT])
        self.assert_said(True, f"[nova] recover_projects contains its project {PROJECT}")
        self.set(ignore_projects=[PROJECT])
        self.assert_said(False, f"[nova] ignore_projects contains its project {PROJECT}")
        self.settings = RecoverySettings(self.conf, self.nova, self.glance)
        self.aggregate("true")
        self.assert_said(True, "host aggregate rack-0 has recover = true")
        self.settings = RecoverySettings(self.conf, self.nova, self.glance)
        self.glance.told = {"recover": "no"}
        self.assert_said(False, "its image image-1 has recover = no")
        self.flavor("yes")
        self.assert_said(True, "its flavor m1 has vmmonitor:recover = yes")
        self.server["metadata"] = {"HA_Enabled": "False"}
        self.assert_said(False, "its metadata has HA_Enabled = False")

    def test_default_applies_without_a_setting(self):
        self.assert_said(True, "")

    def test_value_that_is_not_a_boolean_is_no_setting(self):
        for word in ("maybe", "", "2"):
            self.server["metadata"] = {"HA_Enabled": word}
            self.flavor("off")
            self.assert_said(False, "its flavor m1 has vmmonitor:recover = off")

    def test_services_are_called_only_if_they_can_decide(self):
        self.set(image_key="recover", aggregate_key="recover")
        self.server["metadata"] = {"HA_Enabled": "True"}
        self.assert_said(True, "its metadata has HA_Enabled = True")
        self.assertEqual(([], 0), (self.glance.asked, self.nova.asked))
        self.set(image_key="", aggregate_key="")
        self.server["metadata"] = {}
        self.assert_said(True, "")
        self.assertEqual(([], 0), (self.glance.asked, self.nova.asked))

    def test_responses_are_cached(self):
        self.set(image_key="recover", aggregate_key="recover")
        for _ in range(3):
            self.assert_said(True, "")
        self.assertEqual((["image-1"], 1), (self.glance.asked, self.nova.asked))

    def test_unavailable_service_raises_retriable(self):
        self.set(aggregate_key="recover")
        self.nova.told = Retriable("HTTP status 500")
        self.assertRaises(Retriable, self.settings.wants_recovery, self.server, "compute-1")
        self.set(image_key="recover")
        self.glance.told = Retriable("HTTP status 500")
        self.assertRaises(Retriable, self.settings.wants_recovery, self.server, "compute-1")

    def test_server_without_an_image_needs_no_request(self):
        self.set(image_key="recover")
        for image in ("", None, {}, {"id": ""}, {"id": 7}, []):
            self.server["image"] = image
            self.assert_said(True, "")
        self.assertEqual([], self.glance.asked)

    def test_missing_image_has_no_setting(self):
        self.set(image_key="recover", recover_by_default=False)
        self.assert_said(False, "no setting requests recovery")

    def test_differing_aggregates_disable_recovery(self):
        self.set(aggregate_key="recover")
        self.aggregate("true", "false", "true")
        self.assert_said(False, "host aggregate rack-1 has recover = false")

    def test_aggregates_of_other_hosts_do_not_count(self):
        self.set(aggregate_key="recover")
        self.aggregate("false", hosts=["compute-10", "compute"])
        self.assert_said(True, "")

    def test_invalid_responses_have_no_setting(self):
        self.set(aggregate_key="recover", image_key="recover")
        self.glance.told = {"recover": {"deep": True}}
        self.nova.told = [
            {},
            {"hosts": "compute-1", "metadata": {"recover": "no"}},
            {"hosts": ["compute-1"], "metadata": None},
            {"hosts": ["compute-1"], "metadata": {"recover": None}},
        ]
        self.server |= {"metadata": [1], "flavor": "m1", "tenant_id": None}
        self.assert_said(True, "")
