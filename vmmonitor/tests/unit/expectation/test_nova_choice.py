# SPDX-License-Identifier: Apache-2.0
from typing import Any

import testtools

from vmmonitor import conf as configuration
from vmmonitor.expectation.nova_choice import Choice
from vmmonitor.model.errors import Retriable
from vmmonitor.openstack.memory import Memory
from vmmonitor.tests.unit.expectation.test_nova import server

PROJECT = server()["tenant_id"]


class FakeNova:
    def __init__(self) -> None:
        self.told: Any = []
        self.asked = 0

    def aggregates(self) -> Any:
        self.asked += 1
        if isinstance(self.told, Exception):
            raise self.told
        return self.told


class FakeGlance:
    def __init__(self) -> None:
        self.told: Any = {}
        self.asked: list[str] = []

    def image(self, image_id: str) -> Any:
        self.asked.append(image_id)
        if isinstance(self.told, Exception):
            raise self.told
        return self.told


class ChoiceTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.conf = configuration.new([], files=[])
        self.nova, self.glance = FakeNova(), FakeGlance()
        self.choice = Choice(self.conf, self.nova, self.glance)
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
        said, who = self.choice.recovers(self.server, "compute-1")
        self.assertEqual((wanted, because), (said, who))

    def test_the_first_that_says_anything_decides(self):
        """From the last to the first: each is overruled by the next."""
        self.set(recover_by_default=False, image_key="recover", aggregate_key="recover")
        self.assert_said(False, "nobody asked for it")
        self.set(recover_projects=[PROJECT])
        self.assert_said(True, f"[nova] recover_projects names its project {PROJECT}")
        self.set(ignore_projects=[PROJECT])
        self.assert_said(False, f"[nova] ignore_projects names its project {PROJECT}")
        self.choice = Choice(self.conf, self.nova, self.glance)
        self.aggregate("true")
        self.assert_said(True, "host aggregate rack-0 says recover = true")
        self.choice = Choice(self.conf, self.nova, self.glance)
        self.glance.told = {"recover": "no"}
        self.assert_said(False, "its image image-1 says recover = no")
        self.flavor("yes")
        self.assert_said(True, "its flavor m1 says vmmonitor:recover = yes")
        self.server["metadata"] = {"HA_Enabled": "False"}
        self.assert_said(False, "its metadata says HA_Enabled = False")

    def test_by_default(self):
        self.assert_said(True, "")

    def test_a_word_that_is_neither_yes_nor_no_says_nothing(self):
        for word in ("maybe", "", "2"):
            self.server["metadata"] = {"HA_Enabled": word}
            self.flavor("off")
            self.assert_said(False, "its flavor m1 says vmmonitor:recover = off")

    def test_nobody_is_asked_in_vain(self):
        self.set(image_key="recover", aggregate_key="recover")
        self.server["metadata"] = {"HA_Enabled": "True"}
        self.assert_said(True, "its metadata says HA_Enabled = True")
        self.assertEqual(([], 0), (self.glance.asked, self.nova.asked))
        self.set(image_key="", aggregate_key="")
        self.server["metadata"] = {}
        self.assert_said(True, "")
        self.assertEqual(([], 0), (self.glance.asked, self.nova.asked))

    def test_each_is_asked_once_in_a_while(self):
        self.set(image_key="recover", aggregate_key="recover")
        for _ in range(3):
            self.assert_said(True, "")
        self.assertEqual((["image-1"], 1), (self.glance.asked, self.nova.asked))

    def test_nobody_knows(self):
        self.set(aggregate_key="recover")
        self.nova.told = Retriable("it answers 500")
        self.assertRaises(Retriable, self.choice.recovers, self.server, "compute-1")
        self.set(image_key="recover")
        self.glance.told = Retriable("glance answers 500")
        self.assertRaises(Retriable, self.choice.recovers, self.server, "compute-1")

    def test_one_that_was_booted_from_a_volume_has_no_image(self):
        self.set(image_key="recover")
        for image in ("", None, {}, {"id": ""}, {"id": 7}, []):
            self.server["image"] = image
            self.assert_said(True, "")
        self.assertEqual([], self.glance.asked)

    def test_an_image_that_is_gone_says_nothing(self):
        self.set(image_key="recover", recover_by_default=False)
        self.assert_said(False, "nobody asked for it")

    def test_where_aggregates_differ_it_is_left_alone(self):
        self.set(aggregate_key="recover")
        self.aggregate("true", "false", "true")
        self.assert_said(False, "host aggregate rack-1 says recover = false")

    def test_aggregates_of_other_hosts_say_nothing(self):
        self.set(aggregate_key="recover")
        self.aggregate("false", hosts=["compute-10", "compute"])
        self.assert_said(True, "")

    def test_odd_answers_say_nothing(self):
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


class MemoryTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = 0.0
        self.asked = 0
        self.memory: Memory[int] = Memory(5, most=3, now=lambda: self.clock)

    def ask(self) -> int:
        self.asked += 1
        return self.asked

    def test_an_answer_holds_for_a_while(self):
        self.assertEqual(1, self.memory.get("a", self.ask))
        self.clock = 4.9
        self.assertEqual(1, self.memory.get("a", self.ask))
        self.clock = 5.0
        self.assertEqual(2, self.memory.get("a", self.ask))

    def test_keys_are_apart_and_bounded(self):
        for key in "abcabc":
            self.memory.get(key, self.ask)
        self.assertEqual(3, self.asked)
        for number in range(1000):
            self.memory.get(str(number), self.ask)
        self.assertLessEqual(len(self.memory._known), 3)

    def test_what_failed_is_asked_again(self):
        def fail():
            raise Retriable("no")

        self.assertRaises(Retriable, self.memory.get, "a", fail)
        self.assertEqual(1, self.memory.get("a", self.ask))
