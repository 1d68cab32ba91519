# SPDX-License-Identifier: Apache-2.0
"""Agents and engines with and without keys, in each mode of ``[rpc] signatures``."""

import os

import fixtures
import testtools
from oslo_config import cfg

from vmmonitor import conf as configuration
from vmmonitor.db import agents
from vmmonitor.engine.endpoint import AgentCallEndpoint
from vmmonitor.model.errors import Retriable, VmmonitorError
from vmmonitor.model.receipt import ReceiptStatus
from vmmonitor.rpc import authentication
from vmmonitor.rpc import transport as transports
from vmmonitor.rpc.agent_api import AgentAPI
from vmmonitor.rpc.authentication import CorrectedClock
from vmmonitor.rpc.client import REPETITIONS
from vmmonitor.rpc.engine_api import EngineAPI
from vmmonitor.rpc.keys import KEY_BYTES, MasterKeys, format_key
from vmmonitor.testing.builders import HOST, UUID
from vmmonitor.tests.fixtures import database
from vmmonitor.tests.fixtures.bus import Bus
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.rpc.test_rpc import ORDER, Agent, Engine, delivery

PATIENCE = 10.0
MINUTE = 60_000_000


class ShiftedClock(CorrectedClock):
    """The clock of a host that is wrong by some microseconds."""

    def __init__(self, shift: int):
        super().__init__()
        self._offset += shift


class SignedCallsTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.directory = self.useFixture(fixtures.TempDir()).path
        self.master = self.secret("master", format_key("1", os.urandom(KEY_BYTES)))
        self.transport = self.useFixture(Bus(configuration.new([], files=[]))).transport

    def secret(self, name: str, line: str) -> str:
        path = os.path.join(self.directory, name)
        with open(path, "w") as file:
            file.write(f"{line}\n")
        os.chmod(path, 0o600)
        return path

    def conf(self, mode: str | None = None, **options: str) -> cfg.ConfigOpts:
        conf = configuration.new([], files=[])
        conf.set_override("host", HOST)
        for name, value in {"signatures": mode, **options}.items():
            conf.set_override(name, value, group="rpc")
        return conf

    def engine_side(self, mode: str | None = None, keys: bool = True):
        conf = self.conf(mode, **({"master_key_file": self.master} if keys else {}))
        return authentication.for_engine(conf, self.transport)

    def agent_side(self, mode: str | None = None, keys: bool = True, clock=None):
        key = format_key("1", MasterKeys(self.master).of_host(HOST)["1"])
        options = {"host_key_file": self.secret("host", key)} if keys else {}
        return authentication.for_agent(self.conf(mode, **options), self.transport, clock)

    def serve(self, endpoint, side, topic=transports.ENGINE_TOPIC, host="engine-1"):
        server = transports.serve(self.transport, topic, host, endpoint, side.guard)
        server.start()
        self.addCleanup(server.stop, PATIENCE)
        return endpoint

    def report(self, side) -> list[str]:
        api = EngineAPI(self.transport, signer=side.signer)
        return [one.status for one in api.report_events(HOST, 5, [delivery()], PATIENCE)]

    def refused(self, call, *args) -> str:
        error = self.assertRaises(Retriable, call, *args)
        self.assertIn("not authentic", str(error))
        return str(error)

    def test_event_in_a_signed_call_is_authenticated(self) -> None:
        endpoint = self.serve(Engine(), self.engine_side())
        self.assertEqual([ReceiptStatus.STORED], self.report(self.agent_side()))
        self.assertTrue(endpoint.batches[0].authenticated)

    def test_engine_that_requires_signatures_refuses_an_agent_without_a_key(self) -> None:
        endpoint = self.serve(Engine(), self.engine_side())
        self.refused(self.report, self.agent_side(keys=False))
        self.assertEqual([], endpoint.batches)

    def test_agent_that_requires_signatures_refuses_an_engine_without_a_key(self) -> None:
        endpoint = self.serve(Engine(), self.engine_side(keys=False))
        self.assertIn("it is not signed", self.refused(self.report, self.agent_side()))
        self.assertEqual(1 + REPETITIONS, len(endpoint.batches))

    def test_mixed_upgrade_in_mode_log_stores_every_event(self) -> None:
        endpoint = self.serve(Engine(), self.engine_side("log"))
        for keys, authenticated in ((False, False), (True, True)):
            self.assertEqual([ReceiptStatus.STORED], self.report(self.agent_side(keys=keys)))
            self.assertEqual(authenticated, endpoint.batches[-1].authenticated)
        self.assertEqual([ReceiptStatus.STORED], self.report(self.agent_side("log")))

    def test_agent_in_mode_log_accepts_an_engine_without_a_key(self) -> None:
        self.serve(Engine(), self.engine_side(keys=False))
        self.assertEqual([ReceiptStatus.STORED], self.report(self.agent_side("log")))

    def test_mode_off_ignores_the_keys(self) -> None:
        self.serve(Engine(), self.engine_side("off"))
        side = self.agent_side("off")
        self.assertIsNone(side.signer)
        self.assertEqual([ReceiptStatus.STORED], self.report(side))

    def test_mode_without_a_key_is_an_error(self) -> None:
        for mode in ("log", "require"):
            for build in (self.engine_side, self.agent_side):
                error = self.assertRaises(VmmonitorError, build, mode, keys=False)
                self.assertIn(f"[rpc] signatures = {mode} needs [rpc]", str(error))

    def test_order_to_an_agent_is_signed_with_the_key_of_its_host(self) -> None:
        endpoint = self.serve(Agent(), self.agent_side(), transports.AGENT_TOPIC, HOST)
        api = AgentAPI(self.transport, self.engine_side().signer)
        self.assertTrue(api.recover_instance(HOST, ORDER)["ok"])
        self.assertEqual(ORDER, endpoint.asked)
        del endpoint.asked
        self.refused(AgentAPI(self.transport).recover_instance, HOST, ORDER)
        self.assertFalse(hasattr(endpoint, "asked"))

    def test_false_agent_does_not_answer_a_recovery(self) -> None:
        self.serve(Agent(), self.agent_side(keys=False), transports.AGENT_TOPIC, HOST)
        api = AgentAPI(self.transport, self.engine_side().signer)
        self.refused(api.recover_instance, HOST, ORDER)
        self.refused(api.inspect_instance, HOST, UUID, PATIENCE)

    def test_host_with_a_wrong_clock_is_corrected_by_the_first_answer(self) -> None:
        endpoint = self.serve(Engine(), self.engine_side())
        for shift in (-600 * MINUTE, 600 * MINUTE):
            clock = ShiftedClock(shift)
            self.assertEqual([ReceiptStatus.STORED], self.report(self.agent_side(clock=clock)))
            self.assertTrue(endpoint.batches[-1].authenticated)
            self.assertAlmostEqual(0, clock.now() - CorrectedClock().now(), delta=MINUTE)
        self.assertEqual(2, len(endpoint.batches))

    def test_report_repeated_to_another_engine_changes_nothing(self) -> None:
        stored = self.useFixture(database.SQLite()).database
        endpoint = AgentCallEndpoint(stored, None, PATIENCE)
        side = self.agent_side()
        api = EngineAPI(self.transport, signer=Recorder(side.signer))
        server = transports.serve(
            self.transport, transports.ENGINE_TOPIC, "e", endpoint, self.engine_side().guard
        )
        server.start()
        stopped, up = (
            samples.report(host=HOST, state=state, sent_at=stored.now()) for state in STATES
        )
        api.report_agent(stopped, PATIENCE)
        repeated = side.signer
        api.report_agent(up, PATIENCE)
        server.stop(PATIENCE)
        # Another engine has not seen the nonce.
        self.serve(endpoint, self.engine_side(), host="another")
        replay = EngineAPI(self.transport, signer=Replayer(repeated, RECORDED[0]))
        error = self.assertRaises(Retriable, replay.report_agent, stopped, PATIENCE)
        self.assertIn("not newer than the previous one", str(error))
        with stored.reader() as tx:
            self.assertEqual("up", agents.get(tx, HOST).state)


STATES = ("stopped", "up")
RECORDED: list = []


class Recorder:
    """Remembers the stamps of calls."""

    def __init__(self, signer):
        self._signer = signer
        self.verify = signer.verify
        RECORDED.clear()

    def sign(self, host, method, arguments):
        stamp = self._signer.sign(host, method, arguments)
        RECORDED.append(stamp)
        return stamp


class Replayer:
    """Sends a call with the stamp of an earlier one."""

    def __init__(self, signer, stamp):
        self.verify = signer.verify
        self._stamp = stamp

    def sign(self, _host, _method, _arguments):
        return self._stamp
