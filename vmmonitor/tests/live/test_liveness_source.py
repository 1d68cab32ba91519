# SPDX-License-Identifier: Apache-2.0
"""The liveness source on real QEMUs and real guests that hang."""

import os
import signal
import time

from vmmonitor.tests.live.liveness_base import DEADLINE, INTERVAL, WINDOW, LivenessTest

STOPPED = "liveness.hung/stopped"
ALIVE_AGAIN = "liveness.recovered/hung"
SUSPECT = "liveness.stalled/suspect"


class HungTest(LivenessTest):
    def stop(self, guest):
        pid = guest.kill(signal.SIGSTOP)
        self.addCleanup(self.go_on, pid)
        return pid

    def go_on(self, pid):
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            return

    def test_stopped_and_going_on(self):
        source, told = self.liveness(self.hypervisor())
        guest = self.guest()
        self.watched_for(source, guest, INTERVAL)
        began = time.monotonic()
        pid = self.stop(guest)
        event = self.eventually_told(told, guest, STOPPED)
        took = time.monotonic() - began
        self.assertGreater(took, DEADLINE - INTERVAL)
        self.assertLess(took, INTERVAL + DEADLINE + 5)
        self.assertEqual(("liveness", guest.name), (event.source, event.instance.name))
        self.assertIn("stopped", event.attributes["signals"])
        self.assertGreater(event.attributes["lasted_s"], DEADLINE - INTERVAL)
        self.rounds(source, 4)
        self.go_on(pid)
        event = self.eventually_told(told, guest, STOPPED, ALIVE_AGAIN)
        self.assertEqual("stopped", event.attributes["was"])
        self.watched_for(source, guest, WINDOW)
        self.assertEqual([STOPPED, ALIVE_AGAIN], told.causes(guest.uuid))


class StalledTest(LivenessTest):
    def test_halted(self):
        source, told = self.liveness(self.hypervisor())
        guest, idle = self.guest(), self.guest()
        self.watched_for(source, guest, WINDOW)
        guest.order("H")
        event = self.eventually_told(told, guest, SUSPECT)
        self.assertEqual(["cpu"], event.attributes["signals"])
        self.assertEqual([], told.causes(idle.uuid))
        self.domain(guest, lambda found: found.reset())
        self.eventually_told(told, guest, SUSPECT, "liveness.cleared/stalled")
