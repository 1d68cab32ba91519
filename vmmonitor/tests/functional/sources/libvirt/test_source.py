# SPDX-License-Identifier: Apache-2.0
"""List, then follow, on libvirt's test driver, which lives in this process."""

import logging
import os
import threading
import time
import uuid
from unittest import mock

import fixtures
import libvirt

from vmmonitor.model.event import RawEvent, Reachability, SourceSnapshot
from vmmonitor.sources.libvirt import connection, domain, reconnecting, source, tables
from vmmonitor.sources.libvirt.connection import Connection, DomainEvents
from vmmonitor.testing.guest import NovaMetadata
from vmmonitor.tests.functional.sources import base


class SourceTest(base.LibvirtTest):
    def watched(self, **options):
        """Start a source and wait until it follows."""
        made, observed = self.source(**options)
        self.wait(lambda: observed.reachable() == [True], "reachable")
        return made, observed

    def test_lists_then_is_reachable(self):
        admin = self.admin()
        running = self.new_domain(admin)
        stopped = self.new_domain(admin, persistent=True)
        admin.lookupByUUIDString(stopped).destroy()
        _, observed = self.watched()
        listing, reachable = observed
        self.assertEqual("start", listing.why)
        self.assertLess(listing.started_at, reachable.at)
        self.assertEqual("", reachable.reason)
        seen = {one.instance.uuid: one for one in listing.seen}
        self.assertEqual(("running", False), (seen[running].state, seen[running].persistent))
        self.assertLess(0, seen[running].run_id)
        self.assertEqual(NovaMetadata().name, seen[running].instance.name)
        self.assertIn(running, seen[running].definition)
        self.assertEqual(
            ("shutoff", "destroyed", -1, True),
            (
                seen[stopped].state,
                seen[stopped].reason,
                seen[stopped].run_id,
                seen[stopped].persistent,
            ),
        )

    def test_guest_that_ignores_its_watchdog_has_a_fault_until_it_starts_again(self):
        admin = self.admin()
        made, observed = self.watched()
        one = self.new_domain(admin)

        def report(*event):
            callback = connection.DomainCallback(event[0], one, "web", event[1:], 1)
            made._queue.put(callback)
            self.wait(lambda: not made._queue.qsize(), "handled")

        watchdog = libvirt.VIR_DOMAIN_EVENT_ID_WATCHDOG
        report(watchdog, libvirt.VIR_DOMAIN_EVENT_WATCHDOG_RESET)
        report(libvirt.VIR_DOMAIN_EVENT_ID_REBOOT)
        self.wait(lambda: "reboot" in observed.causes(one), "reset")
        self.assertEqual("", made.find_fault(one))
        report(watchdog, libvirt.VIR_DOMAIN_EVENT_WATCHDOG_SHUTDOWN)
        self.wait(lambda: made.find_fault(one) == "watchdog/shutdown", "found")
        self.assertEqual("", made.find_fault(str(uuid.uuid4())))
        report(libvirt.VIR_DOMAIN_EVENT_ID_REBOOT)
        self.wait(lambda: made.find_fault(one) == "", "ended")

    def test_every_event_in_order(self):
        admin = self.admin()
        _, observed = self.watched()
        one = self.new_domain(admin, persistent=True)
        running = admin.lookupByUUIDString(one)
        for _ in range(200):
            running.suspend()
            running.resume()
        running.destroy()
        expected = [
            "lifecycle.defined/added",
            "lifecycle.started/booted",
            *["lifecycle.suspended/paused", "lifecycle.resumed/unpaused"] * 200,
            "lifecycle.stopped/destroyed",
        ]
        self.wait(lambda: len(observed.causes(one)) == len(expected), "all events")
        self.assertEqual(expected, observed.causes(one))
        times = [event.occurred_at for event in observed.of(RawEvent)]
        self.assertEqual(sorted(times), times)

    def test_looks_at_what_is_new(self):
        admin = self.admin()
        _, observed = self.watched()
        one = self.new_domain(admin, nova=NovaMetadata(name="web"))
        self.wait(lambda: observed.of(RawEvent), "started")
        started = observed.of(RawEvent)[0]
        self.assertEqual("web", started.instance.name)
        self.assertEqual(started.instance, started.seen.instance)
        self.assertEqual("running", started.seen.state)
        admin.lookupByUUIDString(one).suspend()
        self.wait(lambda: len(observed.of(RawEvent)) == 2, "suspended")
        self.assertIsNone(observed.of(RawEvent)[1].seen)

    def test_looks_again_when_the_metadata_change(self):
        admin = self.admin()
        _, observed = self.watched()
        one = self.new_domain(admin, nova=NovaMetadata(name="web"))
        uri = "http://openstack.org/xmlns/libvirt/nova/1.1"
        text = NovaMetadata(name="renamed").xml().strip()
        # libvirt gives the element a prefix of its own, beside nova's.
        admin.lookupByUUIDString(one).setMetadata(
            libvirt.VIR_DOMAIN_METADATA_ELEMENT, text, "new", uri, 0
        )
        self.wait(lambda: len(observed.of(RawEvent)) == 2, "metadata_change")
        changed = observed.of(RawEvent)[1]
        self.assertEqual(("metadata_change", "element"), (changed.type, changed.detail))
        self.assertEqual({"uri": uri}, changed.attributes)
        self.assertEqual("renamed", changed.seen.instance.name)

    def test_a_look_at_what_is_gone_already(self):
        admin = self.admin()
        looked = threading.Event()
        self.useFixture(
            fixtures.MonkeyPatch(
                "vmmonitor.sources.libvirt.domain.examine",
                mock.Mock(side_effect=lambda _: looked.wait() and admin.lookupByName("none")),
            )
        )
        with mock.patch.object(domain, "examine_all", return_value=()):
            _, observed = self.watched()
        one = self.new_domain(admin)
        admin.lookupByUUIDString(one).destroy()
        looked.set()
        self.wait(lambda: len(observed.causes(one)) == 2, "both events")
        self.assertIsNone(observed.of(RawEvent)[0].seen)

    def test_nothing_is_lost_while_it_lists(self):
        admin = self.admin()
        made = []
        real = domain.examine_all

        def examine_all(opened):
            made.append(self.new_domain(admin))
            return real(opened)

        self.useFixture(
            fixtures.MonkeyPatch("vmmonitor.sources.libvirt.domain.examine_all", examine_all)
        )
        _, observed = self.watched()
        self.wait(lambda: observed.of(RawEvent), "started")
        listing, event = observed.of(SourceSnapshot)[0], observed.of(RawEvent)[0]
        self.assertIn(made[0], {seen.instance.uuid for seen in listing.seen})
        self.assertEqual(made[0], event.instance.uuid)
        self.assertLessEqual(listing.started_at, event.occurred_at)

    def test_one_that_cannot_be_looked_at_is_not_gone(self):
        admin = self.admin()
        one = self.new_domain(admin)
        broken = mock.Mock(side_effect=libvirt.libvirtError("monitor hangs"))
        self.useFixture(fixtures.MonkeyPatch("vmmonitor.sources.libvirt.domain.examine", broken))
        _, observed = self.watched()
        seen = {each.instance.uuid: each for each in observed[0].seen}
        self.assertEqual(domain.UNKNOWN_STATE, seen[one].state)

    def test_a_thousand_domains(self):
        admin = self.admin()
        made = {self.new_domain(admin) for _ in range(1000)}
        _, observed = self.watched()
        self.assertLessEqual(made, {seen.instance.uuid for seen in observed[0].seen})


class ReachabilityTest(base.LibvirtTest):
    def test_waits_for_libvirt_and_says_so_once(self):
        path = os.path.join(self.useFixture(fixtures.TempDir()).path, "node.xml")
        _, observed = self.source(uri=f"test://{path}")
        tried = []
        real = Connection.__init__
        self.useFixture(
            fixtures.MonkeyPatch(
                "vmmonitor.sources.libvirt.connection.Connection.__init__",
                lambda *args: tried.append(1) or real(*args),
            )
        )
        self.wait(lambda: len(tried) > 5, "tried again")
        self.assertEqual([False], observed.reachable())
        self.assertIn("node.xml", observed[0].reason)
        with open(f"{path}.new", "w") as node:
            node.write("<node></node>")
        os.rename(f"{path}.new", path)
        self.wait(lambda: observed.reachable() == [False, True], "reachable")
        self.assertEqual(["start"], observed.listings())

    def test_says_so_when_libvirt_does_not_answer(self):
        answer = threading.Event()
        self.addCleanup(answer.set)
        real = connection.connect
        self.useFixture(
            fixtures.MonkeyPatch(
                "vmmonitor.sources.libvirt.connection.connect",
                lambda *args: answer.wait() and real(*args),
            )
        )
        self.useFixture(
            fixtures.MonkeyPatch(
                "vmmonitor.sources.libvirt.reconnecting.LISTENER_STOP_TIMEOUT", 0.1
            )
        )
        made, observed = self.source(keepalive_interval=1, keepalive_count=1)
        self.wait(lambda: observed, "not reachable")
        self.assertEqual([False], observed.reachable())
        self.assertIn("has not answered for 1 s", observed[0].reason)
        made.stop()
        self.assertIn("libvirt-source", base.threads())
        answer.set()
        self.wait(lambda: "libvirt-source" not in base.threads(), "ended")

    def test_starts_over_after_a_bug(self):
        self.useFixture(
            fixtures.MonkeyPatch(
                "vmmonitor.sources.libvirt.domain.examine_all",
                mock.Mock(side_effect=[RuntimeError("a bug"), *[()] * 3]),
            )
        )
        with mock.patch.object(reconnecting.LOG, "exception") as logged:
            _, observed = self.source()
            self.wait(lambda: observed.reachable() == [True], "reachable")
        logged.assert_called_once()

    def test_the_connection_breaks(self):
        made, observed = self.source()
        self.wait(lambda: observed.reachable() == [True], "reachable")
        broken = made._connection
        broken._closed(broken.libvirt, libvirt.VIR_CONNECT_CLOSE_REASON_EOF, None)
        self.wait(lambda: observed.reachable() == [True, False, True], "reachable again")
        self.assertEqual(["start", "reconnect"], observed.listings())
        kinds = [type(one) for one in observed]
        self.assertEqual(
            [SourceSnapshot, Reachability, Reachability, SourceSnapshot, Reachability], kinds
        )
        self.assertEqual("libvirt closed the connection", observed[2].reason)

    def test_events_that_this_libvirt_has_not_are_told_once(self):
        newer = (*tables.CALLBACKS, tables.CallbackSpec(name="from_the_future"))
        self.useFixture(
            fixtures.MonkeyPatch("vmmonitor.sources.libvirt.connection.tables.CALLBACKS", newer)
        )
        DomainEvents._logged_missing.clear()
        log = self.useFixture(fixtures.FakeLogger(level=logging.DEBUG))
        for _ in range(2):
            made, observed = self.source()
            self.wait(lambda observed=observed: observed.reachable() == [True], "reachable")
            made.stop()
        self.assertEqual(1, log.output.count("from_the_future"))


class ListAgainTest(base.LibvirtTest):
    resync_delays = (0.05, 0.1)

    def test_after_it_connected_and_after_a_control_error(self):
        made, observed = self.source()
        self.wait(lambda: len(observed.listings()) == 3, "listed again")
        self.assertEqual(["start", "reconnect", "reconnect"], observed.listings())
        self.assertEqual([True], observed.reachable())
        arrival = connection.DomainCallback(tables.CONTROL_ERROR_ID, str(uuid.uuid4()), "a", (), 1)
        made._queue.put(arrival)
        self.wait(lambda: len(observed.listings()) == 5, "listed again")
        self.assertEqual("control_error", observed.of(RawEvent)[0].type)

    def test_a_storm_of_reasons_does_not_put_it_off(self):
        made, observed = self.source()
        self.wait(lambda: len(observed.listings()) == 3, "listed again")
        arrival = connection.DomainCallback(tables.CONTROL_ERROR_ID, str(uuid.uuid4()), "a", (), 1)
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            made._queue.put(arrival)
            time.sleep(0.01)
        self.assertGreater(len(observed.listings()), 4)


class StopTest(base.LibvirtTest):
    def test_every_thread_ends(self):
        before = base.threads()
        made, observed = self.source()
        self.wait(lambda: observed.reachable() == [True], "reachable")
        watching = [one for one in threading.enumerate() if one.name.startswith("libvirt-")]
        self.assertEqual({"libvirt-events", "libvirt-source"}, {one.name for one in watching})
        self.assertTrue(all(one.daemon for one in watching))
        made.stop()
        self.assertEqual(before, base.threads())
        made.stop()
        self.assertEqual([True], observed.reachable())

    def test_while_libvirt_is_away(self):
        made, observed = self.source(
            uri="qemu+unix:///session?socket=/none", reconnect_min=50, reconnect_max=60
        )
        self.wait(lambda: observed.reachable() == [False], "not reachable")
        made.stop()
        self.assertNotIn("libvirt-source", base.threads())

    def test_before_it_was_started(self):
        source.LibvirtSource(base.new_conf(), list().append).stop()

    def test_what_arrived_before_is_told(self):
        admin = self.admin()
        slow = threading.Event()
        observed = base.Observed()

        def observe(one):
            if isinstance(one, RawEvent):
                slow.wait(base.TIMEOUT_S)
            observed.append(one)

        made, _ = self.source(observe)
        self.wait(lambda: observed.reachable() == [True], "reachable")
        one = self.new_domain(admin)
        admin.lookupByUUIDString(one).suspend()
        self.wait(lambda: made._queue.qsize() == 1, "both arrived")
        threading.Timer(0.1, slow.set).start()
        made.stop()
        self.assertEqual(
            ["lifecycle.started/booted", "lifecycle.suspended/paused"], observed.causes(one)
        )


class BackoffTest(base.LibvirtTest):
    def test_grows_with_jitter_up_to_its_end(self):
        made = source.LibvirtSource(base.new_conf(reconnect_min=0.2, reconnect_max=10.0), print)
        self.assertEqual(0.2, made._reconnect_delay(0))
        for failures, most in ((1, 0.4), (3, 1.6), (6, 10.0), (10**6, 10.0)):
            delays = [made._reconnect_delay(failures) for _ in range(200)]
            self.assertLessEqual(0.2, min(delays))
            self.assertGreaterEqual(most, max(delays))
            self.assertLess(0.5 * most, max(delays))

    def test_bounds_that_contradict_each_other(self):
        made = source.LibvirtSource(base.new_conf(reconnect_min=5.0, reconnect_max=1.0), print)
        self.assertEqual(5.0, made._reconnect_delay(9))
