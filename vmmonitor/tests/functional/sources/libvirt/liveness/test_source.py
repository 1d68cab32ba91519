# SPDX-License-Identifier: Apache-2.0
"""The liveness source's threads, and its rounds on libvirt's test driver."""

import os
import queue
import threading
import time
from unittest import mock

import fixtures
import libvirt
import testtools

from vmmonitor.model.event import RawEvent
from vmmonitor.model.instance import Instance
from vmmonitor.sources.libvirt.liveness import pool, probe
from vmmonitor.sources.libvirt.liveness.readings import QemuReading
from vmmonitor.sources.libvirt.liveness.source import LivenessSource
from vmmonitor.testing import deadline
from vmmonitor.tests.functional.sources import base


class PoolTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.log = self.useFixture(fixtures.FakeLogger())
        self.useFixture(fixtures.MonkeyPatch(f"{pool.__name__}.STUCK_AFTER", 0.05))
        self.release = threading.Event()
        self.done = queue.SimpleQueue()
        self.pool = pool.ProbePool(lambda: mock.Mock())
        self.addCleanup(self.pool.stop)
        self.addCleanup(self.release.set)

    def stick(self, domains):
        self.release.wait(30)
        self.done.put(domains)

    def works(self):
        """Whether a job of another instance is done, within some seconds."""
        self.assertTrue(self.pool.submit("works", self.done.put))

        def is_done():
            self.pool.add_worker_if_stuck()
            return not self.done.empty()

        deadline.eventually(is_done, 20, "done")
        return self.done.get()

    def test_a_stuck_job_blocks_its_own_instance_only(self):
        self.assertTrue(self.pool.submit("stuck", self.stick))
        self.assertIsNotNone(self.works())
        self.assertFalse(self.pool.submit("stuck", self.stick))
        self.release.set()
        deadline.eventually(lambda: not self.pool._pending, 20, "free")
        self.assertTrue(self.pool.submit("stuck", self.stick))

    def test_each_thread_has_its_own_connection(self):
        self.pool.submit("stuck", self.stick)
        working = self.works()
        self.release.set()
        self.assertIsNot(working.connection, self.done.get(timeout=20).connection)

    def test_there_are_only_so_many_threads(self):
        for number in range(pool.MAX_WORKERS + 3):
            self.pool.submit(f"stuck {number}", self.stick)
        deadline.eventually(
            lambda: (
                not self.pool.add_worker_if_stuck() and len(self.pool._workers) == pool.MAX_WORKERS
            ),
            20,
            "full",
        )
        self.assertEqual(3, self.pool.jobs.qsize())
        self.release.set()
        deadline.eventually(lambda: not self.pool._pending, 20, "all done")

    def test_a_broken_connection_is_opened_again(self):
        connections = []

        def fail(domains):
            connections.append(domains.connection)
            domains.connection.isAlive.return_value = False
            raise libvirt.libvirtError("gone")

        self.pool.submit("fails", fail)
        again = self.works()
        self.assertIsNot(connections[0], again.connection)
        connections[0].close.assert_called_once_with()

    def test_a_bug_in_a_job(self):
        self.pool.submit("bug", lambda _: 1 / 0)
        self.works()
        self.assertIn("ZeroDivisionError", self.log.output)

    def test_it_stops_although_a_job_is_stuck(self):
        self.pool.submit("stuck", self.stick)
        began = time.monotonic()
        self.pool.stop()
        self.assertLess(time.monotonic() - began, 10)


class DomainsTest(testtools.TestCase):
    def test_each_is_looked_up_once(self):
        domains = pool.DomainCache(mock.Mock())
        lookup = domains.connection.lookupByUUIDString
        lookup.side_effect = str.upper
        self.assertEqual(["A", "B", "A"], [domains.get(uuid) for uuid in "aba"])
        self.assertEqual(2, lookup.call_count)

    def test_so_many_are_kept(self):
        domains = pool.DomainCache(mock.Mock())
        for number in range(3 * domains.MAX_DOMAINS):
            domains.get(str(number))
        self.assertLessEqual(len(domains._domains), domains.MAX_DOMAINS)


class PingTest(testtools.TestCase):
    def ping(self, code):
        domains = pool.DomainCache(mock.Mock())
        error = libvirt.libvirtError("no")
        error.err = (code, 0, "no", 2, "", "", "", 0, 0)
        domain = domains.connection.lookupByUUIDString.return_value
        domain.getTime.side_effect = error if code else None
        return probe.ping_agent(domains, "uuid")

    def test_what_an_agent_says(self):
        self.assertIs(True, self.ping(0))
        self.assertIs(False, self.ping(libvirt.VIR_ERR_AGENT_UNRESPONSIVE))
        self.assertIsNone(self.ping(libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED))


class SourceTest(base.LibvirtTest):
    def setUp(self):
        super().setUp()
        self.asked = []
        self.errors = {}
        self.useFixture(fixtures.MonkeyPatch(f"{probe.__name__}.read_qemu", self.ask))
        self.useFixture(fixtures.MonkeyPatch("libvirt.virDomain.controlInfo", lambda _: [0, 0, 0]))

    def ask(self, _domains, uuid, _tasks, complete, disks):
        """What libvirt's test driver cannot be asked."""
        self.asked.append(uuid)
        at = time.monotonic()
        return QemuReading(at=at, awake_at=at, took_s=0, done=True, disk_errors=self.errors)

    def new_source(self, **options):
        conf = base.new_conf()
        file = os.path.join(self.useFixture(fixtures.TempDir()).path, "facts.json")
        for name, value in {"interval": 0.2, "facts_file": file, **options}.items():
            conf.set_override(name, value, "liveness")
        told = base.Observed()
        source = LivenessSource(conf, told.append)
        self.addCleanup(source.stop)
        source.start()
        self.wait(lambda: told.reachable() == [True], "reachable")
        return source, told

    def test_each_running_domain_is_asked_in_each_round(self):
        admin = self.admin()
        source, _ = self.new_source()
        uuid = self.new_domain(admin)
        self.wait(lambda: self.asked.count(uuid) > 2, "asked")
        admin.lookupByUUIDString(uuid).destroy()
        self.wait(lambda: uuid not in source._watched, "forgotten")

    def test_who_it_is_about(self):
        admin = self.admin()
        uuid = self.new_domain(admin)
        self.errors = {"vda": "no_space"}
        _, told = self.new_source()
        self.wait(lambda: told.causes(uuid), "told")
        event = next(one for one in told.of(RawEvent) if one.instance.uuid == uuid)
        self.assertEqual(
            ("liveness", "liveness.disk_error", "no_space", {"device": "vda"}),
            (event.source, event.type, event.detail, event.attributes),
        )
        self.assertEqual(f"domain-{uuid[:8]}", event.instance.hypervisor_name)
        self.errors = {}
        self.wait(lambda: len(told.causes(uuid)) > 1, "over")
        self.assertEqual("liveness.cleared/disk_error", told.causes(uuid)[1])

    def test_what_was_told_outlives_a_round_that_fails(self):
        admin = self.admin()
        uuid = self.new_domain(admin)
        self.errors = {"vda": "no_space"}
        source, told = self.new_source()
        self.wait(lambda: told.causes(uuid), "told")
        look = libvirt.virConnect.getAllDomainStats
        failing = mock.Mock(side_effect=libvirt.libvirtError("no"))
        self.useFixture(
            fixtures.MonkeyPatch("libvirt.virConnect.getAllDomainStats", lambda *_: failing())
        )
        self.wait(lambda: told.reachable()[-1] is False, "unreachable")
        self.useFixture(fixtures.MonkeyPatch("libvirt.virConnect.getAllDomainStats", look))
        self.wait(lambda: told.reachable()[-1] is True, "reachable again")
        asked = len(self.asked)
        self.wait(lambda: len(self.asked) > asked + 3, "asked again")
        self.assertEqual(["liveness.disk_error/no_space"], told.causes(uuid))

    def test_one_that_was_brought_back_starts_over(self):
        uuid = self.new_domain(self.admin())
        source, _ = self.new_source()
        self.wait(lambda: uuid in source._watched, "watched")
        facts = source._watched[uuid].judge.facts
        facts.begin("stalled", "failed", 1, {})
        source.follow(
            RawEvent(
                source="agent",
                type="recovery.running",
                detail="reset",
                occurred_at=1,
                instance=Instance(uuid=uuid),
            )
        )
        self.wait(lambda: not facts.all(), "forgotten")

    def test_following_only_queues(self):
        source = LivenessSource(base.new_conf(), lambda _: None)
        for kind in ("reboot", "rtc_change"):
            source.follow(
                RawEvent(
                    source="libvirt",
                    type=kind,
                    detail="",
                    occurred_at=1,
                    instance=Instance(uuid="u"),
                )
            )
        self.assertEqual(1, source._queue.qsize())

    def test_stopping_ends_its_threads(self):
        source, _ = self.new_source()
        source.stop()
        source.stop()
        self.wait(lambda: not base.threads("liveness"), "ended")

    def test_libvirt_is_not_there(self):
        conf = base.new_conf(uri="qemu+unix:///session?socket=/nowhere/sock")
        told = base.Observed()
        source = LivenessSource(conf, told.append)
        self.addCleanup(source.stop)
        source.start()
        self.wait(lambda: told.reachable() == [False], "unreachable")
