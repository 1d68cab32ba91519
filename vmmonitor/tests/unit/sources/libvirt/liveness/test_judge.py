# SPDX-License-Identifier: Apache-2.0
"""What is told of one run of one instance, and how often."""

import dataclasses
import json
import logging
import os
import tempfile
import unittest

from vmmonitor import conf
from vmmonitor.conf import liveness as options
from vmmonitor.rules import defaults, filters
from vmmonitor.sources.libvirt import tables
from vmmonitor.sources.libvirt.liveness import probe, settings, state_file
from vmmonitor.sources.libvirt.liveness.facts import Facts
from vmmonitor.sources.libvirt.liveness.judge import INTENDED_PAUSES, Judge
from vmmonitor.sources.libvirt.liveness.readings import (
    HostReading,
    QemuReading,
    ThreadReading,
    VcpuReading,
)
from vmmonitor.tests.unit.rules import base

SETTINGS = settings.LivenessSettings(interval=10, deadline=20, window=30)
UUID = "7cbbfad7-b25b-4977-945f-310ada8fac56"
S = 1_000_000


def causes(words):
    """What is told, as type/detail."""
    return [f"{word.type.removeprefix('liveness.')}/{word.detail}" for word in words]


class JudgeTest(unittest.TestCase):
    def setUp(self):
        self.judge = Judge(SETTINGS, Facts())
        self.words = []

    def look(self, at, state="running", reason="booted", main="S", occupied_s=None):
        thread = ThreadReading(state=main, cpu_ns=5, delay_ns=0, runs=7)
        look = HostReading(at=at, state=state, reason=reason, occupied_s=occupied_s, main=thread)
        self.words = self.judge.add_host_reading(look, int(at * S))
        return causes(self.words)

    def answer(self, at, errors=None, runs=0, **said):
        thread = ThreadReading(state="S", cpu_ns=runs * 200_000, delay_ns=0, runs=runs)
        answer = QemuReading(
            at=at,
            awake_at=at,
            took_s=0.002,
            done=True,
            vcpus=VcpuReading(threads={1: thread}, emulated=True),
            disk_errors=errors or {},
            **{"io": 0, **said},
        )
        self.words = self.judge.add_qemu_reading(answer, int(at * S))
        return causes(self.words)

    def round(self, at, **said):
        return self.look(at) + self.answer(at, **said)


class HungTest(JudgeTest):
    def test_told_once_and_ended_once(self):
        self.assertEqual([], self.look(0))
        self.assertEqual([], self.look(10, main="T") + self.look(20, main="T"))
        self.assertEqual(["hung/stopped"], self.look(30, main="T"))
        self.assertEqual({"lasted_s": 20, "signals": ["stopped"]}, self.words[0].attributes)
        self.assertIsNone(self.judge.next_reading_at())
        self.assertEqual([], self.look(40, main="T") + self.look(50, main="T"))
        self.assertEqual(["recovered/hung"], self.answer(60))
        self.assertEqual({"was": "stopped", "lasted_s": 30}, self.words[0].attributes)
        self.assertEqual([], self.answer(70))

    def test_only_an_answer_ends_it(self):
        self.look(0, main="T")
        self.assertEqual(["hung/stopped"], self.look(20, main="T"))
        self.assertEqual([], self.look(30))
        busy = QemuReading(at=31, awake_at=31, took_s=30, done=False)
        self.assertEqual([], self.judge.add_qemu_reading(busy, 31 * S))
        self.assertEqual(["recovered/hung"], self.answer(32))

    def test_who_may_be_asked(self):
        self.assertFalse(self.judge.may_ask())
        for expected, at, facts in (
            (True, 0, {}),
            (False, 1, {"occupied_s": 0.1}),
            (True, 2, {"state": "paused", "reason": "user"}),
            (False, 3, {"state": "paused", "reason": "save"}),
            (False, 4, {"state": "shutoff"}),
        ):
            self.look(at, **facts)
            self.assertEqual(expected, self.judge.may_ask(), facts)

    def test_one_that_cannot_be_looked_at_is_not_due(self):
        self.look(0, main="T")
        self.judge.note_question(0)
        self.assertIsNotNone(self.judge.next_reading_at())
        self.judge.discard_readings()
        self.assertIsNone(self.judge.next_reading_at())

    def test_libvirt_went_away_while_it_was_asked(self):
        self.look(0)
        self.judge.note_question(0)
        self.assertEqual(10, self.judge.next_reading_at())
        self.judge.withdraw_question()
        self.assertIsNone(self.judge.next_reading_at())


class StalledTest(JudgeTest):
    def halt(self, first, last, **said):
        return [one for at in range(first, last, 10) for one in self.round(at, **said)]

    def test_told_once_and_ended_once(self):
        self.assertEqual(["stalled/suspect"], self.halt(0, 300))
        self.round(300, runs=200)
        self.assertEqual(["cleared/stalled"], self.round(310, runs=400))
        self.assertEqual(280, self.words[0].attributes["lasted_s"])

    def test_it_grows(self):
        self.assertEqual(["stalled/suspect"], self.halt(0, 60))
        self.judge.disturb()
        for number, at in enumerate((60, 70, 80)):
            self.round(at, io=number)
        self.assertEqual((), self.judge.facts.all())
        told = self.halt(90, 200, io=2)
        self.assertEqual(["stalled/failed"], told)

    def test_grown_it_does_not_shrink(self):
        facts = Facts()
        told = [
            *facts.begin("stalled", "suspect", 0, {}),
            *facts.begin("stalled", "failed", S, {}),
            *facts.begin("stalled", "suspect", 2 * S, {}),
            *facts.begin("stalled", "failed", 3 * S, {}),
            *facts.end("stalled", 4 * S),
        ]
        self.assertEqual(["stalled/suspect", "stalled/failed", "recovered/stalled"], causes(told))
        self.assertEqual(4, told[-1].attributes["lasted_s"])

    def test_paused_it_is_not_measured(self):
        self.halt(0, 30)
        for at in range(30, 300, 10):
            self.assertEqual([], self.look(at, "paused", "user") + self.answer(at))
        self.assertEqual([], self.halt(300, 330))
        self.assertEqual(["stalled/suspect"], self.halt(330, 350))

    def test_while_its_memory_arrives_it_is_not_measured(self):
        for at in range(0, 300, 10):
            self.assertEqual([], self.look(at, reason="postcopy") + self.answer(at))


class EndsTest(unittest.TestCase):
    def test_it_runs_again_when_the_last_serious_fact_ends(self):
        facts = Facts()
        facts.begin("stalled", "failed", 0, {})
        facts.begin("hung", "monitor", 0, {})
        facts.begin("disk_error", "no_space", 0, {}, "vda")
        self.assertEqual(["cleared/hung"], causes(facts.end("hung", 1)))
        self.assertEqual(["recovered/stalled"], causes(facts.end("stalled", 1)))
        self.assertEqual(["cleared/disk_error"], causes(facts.end("disk_error", 1, "vda")))

    def test_a_suspicion_keeps_nobody_from_running(self):
        facts = Facts()
        facts.begin("stalled", "suspect", 0, {})
        facts.begin("hung", "monitor", 0, {})
        self.assertEqual(["recovered/hung"], causes(facts.end("hung", 1)))
        self.assertEqual(["cleared/stalled"], causes(facts.end("stalled", 1)))

    def test_what_goes_on_although_somebody_saw_to_it_is_told_anew(self):
        facts = Facts()
        for kind, detail, anew in (("stalled", "failed", 1), ("disk_error", "no_space", 0)):
            facts.begin(kind, detail, 0, {})
            facts.forget_serious()
            self.assertEqual(anew, len(facts.begin(kind, detail, 1, {})), kind)

    def test_the_clock_was_put_back(self):
        facts = Facts()
        facts.begin("hung", "monitor", 9 * S, {})
        self.assertEqual(0, facts.end("hung", 1)[0].attributes["lasted_s"])


class PausedTest(JudgeTest):
    def test_told_at_the_second_look(self):
        self.assertEqual([], self.look(0, "paused", "ioerror"))
        self.assertEqual(["paused/ioerror"], self.look(10, "paused", "ioerror"))
        self.assertEqual([], self.look(20, "paused", "ioerror"))
        self.assertEqual(["cleared/paused"], self.look(30))

    def test_another_reason_is_another_fact(self):
        self.look(0, "paused", "ioerror")
        self.look(10, "paused", "ioerror")
        self.assertEqual(["cleared/paused"], self.look(20, "paused", "watchdog"))
        self.assertEqual(["paused/watchdog"], self.look(30, "paused", "watchdog"))

    def test_told_by_somebody_else(self):
        self.judge.set_reported_pause("ioerror")
        for at in range(0, 100, 10):
            self.assertEqual([], self.look(at, "paused", "ioerror"))

    def test_what_somebody_wants(self):
        _, reasons = tables.DOMAIN_STATES[3]
        self.assertLess(INTENDED_PAUSES, set(reasons))
        for at, reason in enumerate(sorted(INTENDED_PAUSES) * 2):
            self.assertEqual([], self.look(at * 10, "paused", reason))

    def test_crashed(self):
        self.look(0, "crashed", "panicked")
        self.assertEqual(["paused/crashed"], self.look(10, "crashed", "panicked"))


class DiskErrorTest(JudgeTest):
    def test_each_device_once(self):
        self.look(0)
        self.assertEqual(["disk_error/no_space"], self.answer(0, {"vdb": "no_space"}))
        self.assertEqual({"device": "vdb"}, self.words[0].attributes)
        told = self.answer(10, {"vdb": "no_space", "vda": "unspecified"})
        self.assertEqual(["disk_error/unspecified"], told)
        self.assertEqual(["cleared/disk_error"], self.answer(20, {"vda": "unspecified"}))
        self.assertEqual("vdb", self.words[0].attributes["device"])

    def test_asked_about_at_first_and_whenever_there_may_be_one(self):
        self.assertTrue(self.judge.wants_disk_errors())
        self.round(0)
        self.assertFalse(self.judge.wants_disk_errors())
        self.judge.disturb()
        self.assertTrue(self.judge.wants_disk_errors())
        self.round(10)
        self.look(20, "paused", "ioerror")
        self.assertTrue(self.judge.wants_disk_errors())
        self.answer(20, {"vdb": "no_space"})
        self.judge.add_host_reading(HostReading(at=21, state="running"), 21 * S)
        self.assertFalse(self.judge.wants_disk_errors())

    def test_it_is_over_when_the_guest_goes_on_although_qemu_names_it_still(self):
        errors = {"vdb": "no_space"}
        self.look(0, "paused", "ioerror")
        self.assertEqual(["disk_error/no_space"], self.answer(0, errors))
        self.assertEqual(["cleared/disk_error"], self.look(10))
        self.assertEqual([], self.answer(10, errors) + self.look(20) + self.answer(20, errors))
        self.look(30, "paused", "ioerror")
        self.assertEqual(["disk_error/no_space"], self.answer(30, errors))

    def test_one_of_a_guest_that_went_on_before_anybody_looked(self):
        self.look(0)
        told = [one for at in (0, 10, 20) for one in self.answer(at, {"vdb": "no_space"})]
        self.assertEqual(["disk_error/no_space"], told)


class AgentTest(JudgeTest):
    def ping(self, at, speaks):
        return causes(self.judge.add_ping(speaks, at, at * S))

    def test_silent_after_it_spoke(self):
        self.assertEqual([], self.ping(0, True) + self.ping(10, False) + self.ping(30, False))
        self.assertEqual(["guest_agent/silent"], self.ping(40, False))
        self.assertEqual([], self.ping(50, False))
        self.assertEqual(["cleared/guest_agent"], self.ping(60, True))

    def test_one_that_never_spoke(self):
        self.assertEqual([], [one for at in range(0, 200, 10) for one in self.ping(at, False)])

    def test_a_guest_that_boots(self):
        self.ping(0, True)
        self.judge.disturb()
        self.assertEqual([], [one for at in range(0, 200, 10) for one in self.ping(at, False)])


class MemoryTest(unittest.TestCase):
    def setUp(self):
        # What it logs of files that cannot be read is no news here.
        logging.disable(logging.CRITICAL)
        self.addCleanup(logging.disable, logging.NOTSET)
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = os.path.join(directory.name, "facts.json")

    def test_what_was_written(self):
        facts = Facts()
        facts.begin("hung", "monitor", 5, {"signals": []})
        facts.begin("disk_error", "no_space", 6, {}, "vda")
        state_file.write(self.path, {UUID: ("3:4:5", facts.all())})
        self.assertEqual({UUID: ("3:4:5", facts.all())}, state_file.read(self.path))
        known = Facts(state_file.read(self.path)[UUID][1])
        self.assertEqual([], known.begin("hung", "stopped", 7, {}))
        self.assertEqual(["recovered/hung"], causes(known.end("hung", 8)))

    def test_no_file_and_broken_ones(self):
        self.assertEqual({}, state_file.read(self.path))
        for text in ("", "[]", "[1]", "{", '{"a": 1}', '{"a": ["1", [{"kind": 1}]]}', '{"a": []}'):
            with open(self.path, "w") as file:
                file.write(text)
            self.assertEqual({}, state_file.read(self.path), text)

    def test_no_room(self):
        state_file.write(os.path.join(self.path, "nowhere"), {})


class SaidTest(unittest.TestCase):
    def test_exits_of_the_guest_itself(self):
        said = {
            "vcpu.current": 2,
            "vcpu.0.exits.sum": 1000,
            "vcpu.0.irq_exits.sum": 300,
            "vcpu.0.halt_exits.sum": 9,
            "vcpu.1.exits.sum": 50,
            "vcpu.1.irq-exits.sum": 50,
        }
        self.assertEqual(700, probe.count_exits(said))
        self.assertIsNone(probe.count_exits({"vcpu.0.time": 5, "vcpu.current": 1}))


class SettingsTest(unittest.TestCase):
    def options(self, **own):
        made = conf.new([], [])
        for name, value in own.items():
            made.set_override(name, value, "liveness")
        return settings.read_settings(made.liveness)

    def test_presets(self):
        for name, found_within in (("high", 30), ("medium", 60), ("low", 120)):
            preset = self.options(sensitivity=name)
            self.assertEqual(found_within, preset.interval + preset.deadline)
            self.assertEqual(found_within, preset.window)
        self.assertEqual(settings.PRESETS["medium"], self.options())

    def test_each_time_by_itself(self):
        self.assertEqual(
            settings.LivenessSettings(interval=10, deadline=7, window=30),
            self.options(sensitivity="high", deadline=7),
        )

    def test_the_help_says_what_the_presets_are(self):
        [sensitivity] = [opt for opt in options.OPTS if opt.name == "sensitivity"]
        for name, text in sensitivity.type.choices.items():
            times = dataclasses.asdict(settings.PRESETS[name])
            said = ", ".join(f"{key} {value}" for key, value in times.items())
            self.assertTrue(text.endswith(said), text)


class RulesTest(base.RulesTest):
    def test_what_becomes_of_each(self):
        rules = filters.load(defaults.path(defaults.EVENT_FILTERS))
        for causes_told, action, severity in (
            ("hung/stopped hung/uninterruptible hung/zombie hung/monitor", "incident", "critical"),
            ("stalled/failed paused/ioerror paused/watchdog", "incident", "critical"),
            ("paused/crashed paused/api_error paused/postcopy_failed", "incident", "critical"),
            ("stalled/suspect disk_error/no_space guest_agent/silent", "record", "warning"),
            ("paused/unknown disk_error/unspecified", "record", "warning"),
            ("cleared/hung recovered/hung recovered/stalled", "record", "info"),
        ):
            for cause in causes_told.split():
                kind, detail = cause.split("/")
                decided = rules.decide(base.event(f"liveness.{kind}", detail, source="liveness"))
                self.assertEqual((action, severity), (decided.action, decided.severity), cause)
                self.assertNotEqual("default", decided.rule)

    def test_what_is_told_can_be_sent(self):
        facts = Facts()
        [word] = facts.begin("hung", "monitor", 5, {"signals": ["monitor"], "lasted_s": 1.5})
        json.dumps(word.attributes)
