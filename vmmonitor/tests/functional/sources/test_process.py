# SPDX-License-Identifier: Apache-2.0
"""The process source on processes that look like QEMU."""

import logging
import os
import resource
import threading
import time
import uuid
from unittest import mock

import fixtures
import testtools

from vmmonitor.model.event import RawEvent, Reachability, SourceSnapshot
from vmmonitor.model.instance import Instance, QemuOwner, Seen
from vmmonitor.sources import process, procfs
from vmmonitor.sources.process import ProcessSource
from vmmonitor.testing.deadline import eventually
from vmmonitor.tests.fixtures.fake_qemu import FakeQemus
from vmmonitor.tests.functional.sources.base import Observed, new_conf, threads


def listing(*uuids, state="running"):
    """What the libvirt source says of all instances."""
    seen = tuple(Seen(instance=Instance(uuid=one), state=state) for one in uuids)
    owner = QemuOwner(uids=frozenset({os.getuid()}))
    return SourceSnapshot(source="libvirt", started_at=1, why="start", seen=seen, owner=owner)


def lifecycle(event, instance_uuid):
    """What the libvirt source says of one instance."""
    return RawEvent(
        source="libvirt",
        type=f"lifecycle.{event}",
        detail="",
        occurred_at=1,
        instance=Instance(uuid=instance_uuid),
    )


class ProcessTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        # A listener of another test that meets a foreign broker logs without end.
        self.useFixture(fixtures.LogHandler(logging.NullHandler()))
        self.log = self.useFixture(fixtures.FakeLogger("vmmonitor"))
        self.qemus = self.useFixture(FakeQemus())
        self.observed = Observed()
        self.source = ProcessSource(new_conf(), self.observed.append)
        self.addCleanup(self.source.stop)

    def started(self):
        """Start the source."""
        self.source.start()
        eventually(lambda: self.observed.reachable(), what="reachable")

    def new(self):
        """Start a process; returns its instance's uuid and its pid."""
        [(one, pid)] = self.new_ones(1).items()
        return one, pid

    def new_ones(self, count):
        """Start so many processes; returns their pids by their instances' uuids."""
        uuids = [str(uuid.uuid4()) for _ in range(count)]
        return dict(zip(uuids, self.qemus.start(*uuids), strict=True))

    def watched(self, count):
        """Wait until so many instances are watched."""
        eventually(lambda: len(self.source._watched) == count, what=f"{count} are watched")

    def exited(self):
        """The uuids and pids of the processes that are told to have ended."""
        return [
            (event.instance.uuid, event.attributes["pid"]) for event in self.observed.of(RawEvent)
        ]


class WatchTest(ProcessTest):
    def test_the_end_of_a_process(self):
        one, pid = self.new()
        _, other = self.new()
        self.started()
        self.source.follow(listing(one))
        self.watched(1)
        before = time.time_ns() // 1000
        self.qemus.kill(other)
        self.qemus.kill(pid)
        eventually(self.exited)
        reachable, event = self.observed
        self.assertEqual(
            Reachability(source="process", reachable=True, at=reachable.at), reachable
        )
        self.assertEqual(("process", "process.exited", ""), self.what(event))
        self.assertEqual(Instance(uuid=one), event.instance)
        self.assertEqual({"pid", "ran_for_s"}, set(event.attributes))
        self.assertEqual(pid, event.attributes["pid"])
        self.assertTrue(0 <= event.attributes["ran_for_s"] < 60, event.attributes)
        self.assertTrue(before <= event.occurred_at < before + 5_000_000)
        eventually(lambda: not self.source._watched, what="not watched")

    def what(self, event):
        return event.source, event.type, event.detail

    def test_it_had_ended_before_it_was_listed(self):
        one, pid = self.new()
        self.qemus.kill(pid)
        self.started()
        self.source.follow(listing(one))
        eventually(lambda: "1 running instances have no QEMU process" in self.log.output)
        self.assertEqual([], self.exited())

    def test_what_does_not_run_is_not_looked_for(self):
        one, _ = self.new()
        paused, _ = self.new()
        self.started()
        self.source.follow(listing(one, state="shutoff"))
        self.source.follow(listing(paused, state="paused"))
        self.watched(1)
        self.assertEqual({paused}, set(self.source._watched))

    def test_a_new_one_is_learnt_from_its_start(self):
        self.started()
        self.source.follow(listing())
        for event in ("started", "resumed"):
            one, pid = self.new()
            self.source.follow(lifecycle(event, one))
            self.watched(1)
            self.qemus.kill(pid)
            eventually(lambda told=(one, pid): told in self.exited())
        self.assertEqual(2, len(self.exited()))

    def test_what_was_told_before_the_start(self):
        one, _ = self.new()
        self.source.follow(listing(one))
        self.started()
        self.watched(1)

    def test_other_news_are_passed_over(self):
        one, _ = self.new()
        self.started()
        self.source.follow(lifecycle("stopped", one))
        self.source.follow(Reachability(source="libvirt", reachable=False, at=1))
        self.assertTrue(self.source._queue.empty())

    def test_a_restart_is_followed(self):
        one, first = self.new()
        self.started()
        self.source.follow(listing(one))
        self.watched(1)
        self.qemus.kill(first)
        [second] = self.qemus.start(one)
        self.source.follow(lifecycle("started", one))
        eventually(lambda: self.source._watched.get(one, mock.Mock(pid=0)).pid == second)
        self.qemus.kill(second)
        eventually(lambda: len(self.exited()) == 2)
        self.assertEqual([(one, first), (one, second)], self.exited())

    def test_of_two_processes_the_younger_is_the_instance(self):
        one, first = self.new()
        self.started()
        self.source.follow(listing(one))
        self.watched(1)
        time.sleep(3 / procfs.TICKS_PER_SECOND)
        [second] = self.qemus.start(one)
        self.source.follow(lifecycle("resumed", one))
        other, _ = self.new()
        self.source.follow(lifecycle("started", other))
        self.watched(2)
        self.assertEqual(first, self.source._watched[one].pid)
        self.source.follow(lifecycle("started", one))
        eventually(lambda: self.source._watched[one].pid == second)
        self.qemus.kill(first)
        eventually(lambda: self.exited() == [(one, first)])
        self.assertEqual(second, self.source._watched[one].pid)

    def test_listed_again(self):
        one, pid = self.new()
        self.started()
        for _ in range(3):
            self.source.follow(listing(one))
            self.source.follow(lifecycle("started", one))
        self.watched(1)
        self.qemus.kill(pid)
        eventually(self.exited)
        other, _ = self.new()
        self.source.follow(listing(other))
        self.watched(1)
        self.assertEqual([(one, pid)], self.exited())

    def test_a_thousand_in_one_thread(self):
        pids = self.new_ones(1000)
        before = threading.active_count()
        self.started()
        self.source.follow(listing(*pids))
        self.watched(1000)
        self.assertEqual(before + 1, threading.active_count())
        clock = time.pthread_getcpuclockid(self.source._thread.ident)
        used = time.clock_gettime(clock)
        time.sleep(0.5)
        self.assertLess(time.clock_gettime(clock) - used, 0.001, "it is not at rest")
        chosen = list(pids)[::100]
        for one in chosen:
            self.qemus.kill(pids[one])
        eventually(lambda: len(self.exited()) == len(chosen))
        self.assertEqual([(one, pids[one]) for one in chosen], self.exited())


class TroubleTest(ProcessTest):
    def test_processes_of_others_are_hidden(self):
        one, _ = self.new()
        hidden = fixtures.MonkeyPatch(
            "vmmonitor.sources.procfs._read", mock.Mock(side_effect=PermissionError(13, "no"))
        )
        with hidden:
            self.started()
            self.source.follow(listing(one))
            eventually(lambda: self.source._queue.empty())
            self.assertEqual([False], self.observed.reachable())
            self.assertIn("hidepid", self.observed[0].reason)
        self.source.follow(listing(one))
        self.watched(1)
        self.assertEqual([False, True], self.observed.reachable())

    def test_no_pidfd(self):
        missing = mock.Mock(side_effect=OSError(38, "Function not implemented"))
        self.useFixture(fixtures.MonkeyPatch("os.pidfd_open", missing))
        self.started()
        self.assertEqual([False], self.observed.reachable())
        self.assertIn("pidfd", self.observed[0].reason)

    def test_the_limit_of_open_files_is_raised(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (process.SPARE_FILES, hard))
        one, _ = self.new()
        self.started()
        self.source.follow(listing(one))
        self.watched(1)
        self.assertEqual((hard, hard), resource.getrlimit(resource.RLIMIT_NOFILE))
        self.assertIn(f"from {process.SPARE_FILES} to {hard}", self.log.output)

    def test_the_limit_of_open_files_is_too_low(self):
        self.useFixture(
            fixtures.MonkeyPatch(
                "resource.getrlimit", lambda _: (process.SPARE_FILES + 3, process.SPARE_FILES + 3)
            )
        )
        pids = self.new_ones(5)
        self.started()
        self.source.follow(listing(*pids))
        eventually(lambda: "Cannot watch 3 more QEMU processes" in self.log.output)
        self.assertIn("LimitNOFILE", self.log.output)
        self.assertEqual(2, len(self.source._watched))
        self.assertNotIn("have no QEMU process", self.log.output)

    def test_it_goes_on_after_a_bug(self):
        self.useFixture(fixtures.MonkeyPatch("vmmonitor.sources.process.ERROR_DELAY", 0.01))
        broken = fixtures.MonkeyPatch(
            "vmmonitor.sources.procfs.find", mock.Mock(side_effect=RuntimeError("a bug"))
        )
        one, pid = self.new()
        self.started()
        with broken:
            self.source.follow(listing(one))
            eventually(lambda: "a bug" in self.log.output)
        self.source.follow(listing(one))
        self.watched(1)
        self.qemus.kill(pid)
        eventually(self.exited)


class StopTest(ProcessTest):
    def test_nothing_is_left(self):
        one, pid = self.new()
        before = len(os.listdir("/proc/self/fd"))
        made = ProcessSource(new_conf(), self.observed.append)
        made.start()
        made.follow(listing(one))
        eventually(lambda: made._watched)
        made.stop()
        made.stop()
        made.follow(listing(one))
        self.assertEqual([], threads("process-"))
        self.assertEqual(before, len(os.listdir("/proc/self/fd")))
        self.qemus.kill(pid)
        self.assertEqual([], self.exited())

    def test_before_it_was_started(self):
        made = ProcessSource(new_conf(), print)
        made.stop()
        made.follow(listing())
