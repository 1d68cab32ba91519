# SPDX-License-Identifier: Apache-2.0
"""Test which events report that an instance left its host."""

import unittest
from typing import Any

from vmmonitor.model.ownership import is_departure
from vmmonitor.testing import builders


class DepartureTest(unittest.TestCase):
    def departs(self, cause: str, **attributes: Any) -> bool:
        """Return whether an event with these attributes is a departure."""
        return is_departure(builders.event(cause, attributes=attributes))

    def test_stop_that_a_user_requested_is_a_departure(self) -> None:
        self.assertTrue(self.departs("lifecycle.stopped/destroyed"))

    def test_requested_stop_by_a_signal_of_libvirt_is_a_departure(self) -> None:
        self.assertTrue(self.departs("lifecycle.stopped/destroyed", shutdown_by="host"))

    def test_end_by_a_process_of_the_host_is_not_a_departure(self) -> None:
        self.assertFalse(self.departs("lifecycle.stopped/shutdown", shutdown_by="host"))

    def test_shutdown_by_the_guest_is_a_departure(self) -> None:
        self.assertTrue(self.departs("lifecycle.stopped/shutdown", shutdown_by="guest"))

    def test_stop_by_a_recovery_is_not_a_departure(self) -> None:
        stop = {"shutdown_by": "host", "ended_by": "recovery"}
        self.assertFalse(self.departs("lifecycle.stopped/destroyed", **stop))

    def test_failure_is_not_a_departure(self) -> None:
        self.assertFalse(self.departs("lifecycle.stopped/failed"))
