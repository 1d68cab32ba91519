# SPDX-License-Identifier: Apache-2.0
"""Signed calls and answers, and everything that is not authentic."""

import dataclasses
import json

import testtools

from vmmonitor.rpc import signing
from vmmonitor.rpc.client import CallSigner
from vmmonitor.rpc.guard import REFUSED_KEY, UNKNOWN_CALLER, Caller, OpenGuard, SignatureGuard
from vmmonitor.rpc.keys import derive_host_key
from vmmonitor.rpc.refusals import LOG_INTERVAL, MAX_LOGGED_HOSTS, OTHER_HOSTS, RefusalLog
from vmmonitor.rpc.replay import NonceMemory
from vmmonitor.rpc.signing import MessageKind, NotAuthentic, SignatureMode

SECOND = 1_000_000
NOON = 1_800_000_000 * SECOND
WINDOW = 60
BATCH = {"batch": {"schema": 1, "host": "a", "sent_at": 5, "events": [{"id": "\ud800", "x": 1.5}]}}
ANSWER = {"schema": 1, "receipts": [["stored"]]}


class Keys:
    """Keys of hosts, from master keys."""

    def __init__(self, masters, hosts=None):
        self.masters = masters
        self._hosts = hosts

    def find(self, host, key_id):
        return self.of_host(host).get(key_id)

    def of_host(self, host):
        if self._hosts is not None and host not in self._hosts:
            return {}
        return {id: derive_host_key(key, host, id) for id, key in self.masters.items()}

    def reload(self):
        raise AssertionError("must not be called")


class Clock:
    def __init__(self):
        self.time = NOON
        self.corrections = []

    def now(self):
        return self.time

    def correct(self, at, sent, received):
        self.corrections.append(at - sent)


class SigningCase(testtools.TestCase):
    """An agent on host "a", and an engine."""

    def setUp(self):
        super().setUp()
        self.masters = {"1": b"m" * 32}
        self.agent_clock, self.engine_clock = Clock(), Clock()
        self.guard = self.build_guard()
        self.signer = self.build_signer()

    def build_guard(self, mode=SignatureMode.REQUIRE, masters=None, hosts=None, to_agent=False):
        return SignatureGuard(
            call=MessageKind.CALL_TO_AGENT if to_agent else MessageKind.CALL_TO_ENGINE,
            answer=MessageKind.ANSWER_OF_AGENT if to_agent else MessageKind.ANSWER_OF_ENGINE,
            keys=Keys(masters or self.masters, hosts),
            mode=mode,
            clock=self.engine_clock,
            window=WINDOW,
        )

    def build_signer(self, mode=SignatureMode.REQUIRE, masters=None, hosts=("a",), to_agent=False):
        return CallSigner(
            call=MessageKind.CALL_TO_AGENT if to_agent else MessageKind.CALL_TO_ENGINE,
            answer=MessageKind.ANSWER_OF_AGENT if to_agent else MessageKind.ANSWER_OF_ENGINE,
            keys=Keys(masters or self.masters, hosts),
            mode=mode,
            clock=self.agent_clock,
        )

    def sign(self, arguments=BATCH, host="a", method="report_events"):
        return self.signer.sign(host, method, arguments)

    def admit(self, stamp, arguments=BATCH, method="report_events"):
        # As the bus carries them.
        form, arguments = json.loads(json.dumps([signing.write_stamp(stamp), arguments]))
        return self.guard.admit(method, form, arguments)

    def refuse(self, *args, **kwargs):
        error = self.assertRaises(NotAuthentic, self.admit, *args, **kwargs)
        self.assertEqual("the call was not authentic", str(error))
        return str(error.__cause__)

    def answer(self, stamp, content=ANSWER):
        return json.loads(json.dumps(self.guard.sign("report_events", self.admit(stamp), content)))


class SigningTest(SigningCase):
    def test_signed_call_is_admitted_with_its_host(self):
        caller = self.admit(self.sign()).caller
        self.assertEqual(Caller(host="a", key_id="1", sent_at=NOON), caller)

    def test_unsigned_call_is_refused(self):
        for context in ({}, None, {"macs": 1}, {"macs": {}, "host": "a"}, {"macs": {"1": 5}}):
            self.assertRaises(NotAuthentic, self.guard.admit, "report_events", context, BATCH)

    def test_call_with_another_payload_method_host_or_time_is_refused(self):
        stamp = self.sign()
        changed = {"batch": BATCH["batch"] | {"sent_at": 6}}
        self.assertEqual("its MAC is wrong", self.refuse(stamp, changed))
        self.assertEqual("its MAC is wrong", self.refuse(stamp, method="report_agent"))
        for changes in ({"host": "b"}, {"sent_at": NOON + 1}, {"nonce": "0" * 24}):
            self.assertEqual(
                "its MAC is wrong", self.refuse(dataclasses.replace(stamp, **changes))
            )

    def test_call_about_another_host_is_refused(self):
        for payload in ({"batch": BATCH["batch"] | {"host": "b"}}, {"batch": {}}, {"batch": []}):
            reason = self.refuse(self.sign(payload), payload)
            self.assertEqual("it is about another host than the one that signed it", reason)

    def test_call_signed_with_the_key_of_another_host_is_refused(self):
        self.signer = self.build_signer(hosts=("evil",))
        stamp = self.signer.sign("evil", "report_events", BATCH)
        self.assertEqual("its MAC is wrong", self.refuse(dataclasses.replace(stamp, host="a")))
        self.assertEqual({}, self.signer.sign("a", "report_events", BATCH).macs)

    def test_call_in_another_direction_is_refused(self):
        order = {"request": {"instance_uuid": "x"}}
        stamp = self.sign(order)
        self.guard = self.build_guard(hosts=("a",), to_agent=True)
        self.assertEqual("its MAC is wrong", self.refuse(stamp, order))

    def test_call_of_another_host_to_an_agent_is_refused(self):
        self.signer = self.build_signer(hosts=None, to_agent=True)
        self.guard = self.build_guard(hosts=("a",), to_agent=True)
        order = {"request": {"instance_uuid": "x"}}
        self.assertEqual("a", self.admit(self.sign(order), order).caller.host)
        reason = self.refuse(self.sign(order, host="b"), order)
        self.assertEqual("it is signed with an unknown key", reason)

    def test_call_that_arrives_twice_is_refused(self):
        stamp = self.sign()
        self.admit(stamp)
        self.assertEqual("it was received before", self.refuse(stamp))

    def test_old_call_is_refused_with_a_signed_time(self):
        stamp = self.sign()
        self.engine_clock.time += (WINDOW + 1) * SECOND
        admission = self.admit(stamp)
        self.assertEqual("clock", admission.refusal[REFUSED_KEY])
        answer = self.guard.sign("report_events", admission, admission.refusal)
        self.signer.verify(stamp, "report_events", answer)
        self.assertEqual([(WINDOW + 1) * SECOND], self.agent_clock.corrections)

    def test_authentic_answer_is_accepted(self):
        stamp = self.sign()
        self.signer.verify(stamp, "report_events", self.answer(stamp))
        self.assertEqual([0], self.agent_clock.corrections)

    def test_answer_that_is_changed_or_unsigned_is_not_authentic(self):
        stamp = self.sign()
        answer = self.answer(stamp)
        signature = answer["signature"]
        for forged in (
            ANSWER,
            None,
            "stored",
            answer | {"receipts": [["duplicate"]]},
            answer | {"more": 1},
            answer | {"signature": signature | {"nonce": "0" * 24}},
            answer | {"signature": signature | {"sent_at": 1}},
            answer | {"signature": signature | {"macs": {}}},
            answer | {"signature": signing.write_stamp(stamp)},
        ):
            error = self.assertRaises(
                NotAuthentic, self.signer.verify, stamp, "report_events", forged
            )
            self.assertIn("the answer of engine was not authentic", str(error))
        self.assertEqual([], self.agent_clock.corrections)

    def test_answer_to_another_call_is_not_authentic(self):
        other = self.answer(self.sign())
        error = self.assertRaises(
            NotAuthentic, self.signer.verify, self.sign(), "report_events", other
        )
        self.assertIn("it belongs to another call", str(error))

    def test_both_key_ids_are_accepted_during_a_rotation(self):
        both = {"2": b"n" * 32, **self.masters}
        new = {"2": both["2"]}
        for agent, engine in (
            (self.masters, both),
            (both, self.masters),
            (new, both),
            (both, new),
        ):
            self.signer = self.build_signer(masters=agent)
            self.guard = self.build_guard(masters=engine)
            stamp = self.sign()
            self.signer.verify(stamp, "report_events", self.answer(stamp))
        self.signer, self.guard = self.build_signer(), self.build_guard(masters=new)
        self.assertEqual("it is signed with an unknown key", self.refuse(self.sign()))

    def test_mode_log_admits_every_call_without_authenticating_it(self):
        self.guard = self.build_guard(mode=SignatureMode.LOG)
        stamp = self.sign()
        self.assertEqual("a", self.admit(stamp).caller.host)
        old = dataclasses.replace(stamp, sent_at=1)
        for admission in (self.guard.admit("x", {}, BATCH), self.admit(stamp), self.admit(old)):
            self.assertEqual(UNKNOWN_CALLER, admission.caller)
            self.assertIsNone(admission.refusal)
        self.assertEqual({"a": 3}, dict(self.guard.refusals.counts))

    def test_mode_log_accepts_every_answer(self):
        self.signer = self.build_signer(mode=SignatureMode.LOG)
        self.signer.verify(self.sign(), "report_events", ANSWER)
        self.assertEqual({"a": 1}, dict(self.signer.refusals.counts))

    def test_open_guard_authenticates_only_within_the_process(self):
        self.assertEqual(UNKNOWN_CALLER, OpenGuard().admit("m", {}, BATCH).caller)
        trusted = OpenGuard(trusted=True)
        self.assertEqual(Caller(host="a"), trusted.admit("m", {}, BATCH).caller)
        self.assertEqual(UNKNOWN_CALLER, trusted.admit("m", {}, {"request": {}}).caller)


class NonceMemoryTest(testtools.TestCase):
    def test_calls_of_each_host_are_remembered_separately(self):
        memory = NonceMemory(window=WINDOW * SECOND)
        self.assertTrue(memory.is_new("a", "n", NOON))
        self.assertTrue(memory.is_new("b", "n", NOON))
        self.assertFalse(memory.is_new("a", "n", NOON))

    def test_call_older_than_the_forgotten_ones_is_refused(self):
        memory = NonceMemory(window=WINDOW * SECOND, limit=3)
        for number in range(5):
            self.assertTrue(memory.is_new("a", f"n{number}", NOON + number))
        self.assertFalse(memory.is_new("a", "n0", NOON))
        self.assertFalse(memory.is_new("a", "never seen", NOON + 1))
        self.assertTrue(memory.is_new("a", "later", NOON + 2))

    def test_expired_calls_are_forgotten(self):
        memory = NonceMemory(window=SECOND)
        memory.is_new("a", "first", NOON)
        memory.is_new("a", "second", NOON + 3 * SECOND)
        self.assertEqual(["second"], list(memory._calls["a"]))
        self.assertFalse(memory.is_new("a", "first", NOON))


class RefusalLogTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.now = 0.0
        self.log = RefusalLog("call is not authentic", lambda: self.now)

    def test_refusals_of_a_host_are_logged_once_a_minute(self):
        with self.assertLogs("vmmonitor.rpc.refusals", "WARNING") as logged:
            for _ in range(3):
                self.log.add("a", "why")
            self.log.add("b", "why")
            self.now += LOG_INTERVAL
            self.log.add("a\n", "why")
            self.log.add("a", "why")
        self.assertEqual(4, len(logged.output))
        self.assertIn("host 'a\\n'", logged.output[2])
        self.assertIn("(3 since the last line, 4 in total)", logged.output[3])

    def test_invented_hosts_do_not_fill_the_log(self):
        for number in range(MAX_LOGGED_HOSTS + 5):
            self.log.add(f"host-{number}", "why")
        self.assertEqual(5, self.log.counts[OTHER_HOSTS])
        self.assertEqual(MAX_LOGGED_HOSTS + 1, len(self.log.counts))

    def assertLogs(self, *args):
        import unittest

        return unittest.TestCase().assertLogs(*args)
