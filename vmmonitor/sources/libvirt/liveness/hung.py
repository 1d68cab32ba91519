# SPDX-License-Identifier: Apache-2.0
"""Detects that the QEMU process of one instance hangs. Pure."""

import enum
from collections.abc import Mapping

from vmmonitor.model import instance as states
from vmmonitor.sources.libvirt.liveness.readings import HostReading, ThreadReading
from vmmonitor.sources.libvirt.liveness.settings import LivenessSettings


class HangDetail(enum.StrEnum):
    """How a QEMU process hangs."""

    STOPPED = "stopped"
    UNINTERRUPTIBLE = "uninterruptible"
    ZOMBIE = "zombie"
    #: A command to the monitor remains unanswered.
    MONITOR = "monitor"


#: State of QEMU's main thread -> the hang if it persists.
HANG_STATES: Mapping[str, HangDetail] = {
    "T": HangDetail.STOPPED,
    "Z": HangDetail.ZOMBIE,
    "X": HangDetail.ZOMBIE,
    "D": HangDetail.UNINTERRUPTIBLE,
}
#: Reasons of a pause during an operation of QEMU that may take long.
OPERATION_PAUSES = frozenset(
    {
        "migration",
        "postcopy",
        "save",
        "dump",
        "snapshot",
        "from_snapshot",
        "starting_up",
        "shutting_down",
    }
)
#: Number of deadlines for a QEMU whose main thread runs: it works (pins memory, writes a
#: snapshot), or it is in an endless loop.
BUSY_DEADLINES = 4
#: Maximum difference, in seconds, between libvirt's clock and the agent's clock over one interval.
CLOCK_TOLERANCE = 0.5
#: Minimum interval, in seconds, of the readings.
MIN_READING_INTERVAL = 0.5


class Hung:
    """Follows the QEMU process of one instance from reading to reading."""

    def __init__(self, settings: LivenessSettings):
        """Start without any reading."""
        self._settings = settings
        self._reading: HostReading | None = None
        #: Time since which the main thread is in a hang state and has not run.
        self._state_since = 0.0
        #: Observed duration of the current unanswered command of QEMU, in seconds.
        self.occupied_for = 0.0
        self._occupied_readings = 0
        #: True if the main thread has run while the command was unanswered.
        self._runs = False
        #: Time of the first query without an answer.
        self._asked_at: float | None = None

    @property
    def unanswered(self) -> bool:
        """True if QEMU has not answered a query yet."""
        return self._asked_at is not None

    def note_question(self, at: float) -> None:
        """Record the time of a query to QEMU."""
        if self._asked_at is None:
            self._asked_at = at

    def note_answer(self) -> None:
        """Record that QEMU has answered."""
        self._asked_at = None

    def add(self, reading: HostReading) -> str:
        """Add a reading; return how QEMU hangs, empty if it does not."""
        before, self._reading = self._reading, reading
        idle = bool(
            before and before.main and reading.main and _is_idle(before.main, reading.main)
        )
        if not (idle and reading.main and reading.main.state in HANG_STATES):
            self._state_since = reading.at
        self._update_occupied(before, reading, idle)
        state = HANG_STATES.get(reading.main.state, "") if reading.main else ""
        if state and reading.at - self._state_since >= self._patience(state):
            return state
        if not self._is_command_overdue(reading):
            return ""
        return state or HangDetail.MONITOR

    def next_reading_at(self) -> float | None:
        """Return the time of the next useful reading; None if the next round is early enough."""
        reading = self._reading
        if reading is None:
            return None
        deadline = self._settings.deadline
        times = []
        if reading.main and reading.main.state in HANG_STATES:
            times.append(self._state_since + self._patience(HANG_STATES[reading.main.state]))
        if reading.occupied_s is not None:
            times.append(reading.at + self._command_patience() - self.occupied_for)
        elif self._asked_at is not None:
            # Half-way, because two readings are needed to see whether the thread runs.
            times.append(max(self._asked_at + deadline / 2, reading.at + deadline / 4))
        return max(min(times), reading.at + MIN_READING_INTERVAL) if times else None

    def silent_for(self, at: float) -> float:
        """Return the observed duration of a possible hang, in seconds; 0 without a sign."""
        reading = self._reading
        hangs = (
            reading is not None and reading.main is not None and reading.main.state in HANG_STATES
        )
        return max(self.occupied_for, at - self._state_since if hangs else 0.0)

    def signals(self) -> list[str]:
        """Return the signs of a hang in the last reading: process state, unanswered command."""
        reading = self._reading
        if reading is None:
            return []
        state = HANG_STATES.get(reading.main.state, "") if reading.main else ""
        monitor = [HangDetail.MONITOR] if self._occupied_readings else []
        return [*([state] if state else []), *monitor]

    def _patience(self, state: str) -> float:
        settings = self._settings
        if state == HangDetail.UNINTERRUPTIBLE:
            # Storage may come back.
            return max(settings.deadline, settings.window)
        return settings.deadline

    def _command_patience(self) -> float:
        return self._settings.deadline * (BUSY_DEADLINES if self._runs else 1)

    def _update_occupied(
        self, before: HostReading | None, reading: HostReading, idle: bool
    ) -> None:
        if reading.occupied_s is None:
            self.occupied_for, self._occupied_readings = 0.0, 0
            self._runs = False
            return
        elapsed = reading.at - before.at if before else 0.0
        started = None if before is None else before.occupied_s
        # libvirt's clock may be set, so that it is trusted only for the time between readings.
        if started is not None and abs(reading.occupied_s - started - elapsed) < CLOCK_TOLERANCE:
            self.occupied_for += elapsed
            self._occupied_readings += 1
            self._runs = self._runs or not idle
        else:
            self.occupied_for = max(0.0, min(reading.occupied_s, elapsed))
            self._occupied_readings = 1
            self._runs = False

    def _is_command_overdue(self, reading: HostReading) -> bool:
        """Return whether one command has been without an answer for too long."""
        if reading.occupied_s is None or is_operation_pause(reading):
            return False
        # Two readings, because a clock set forward would make a new command an old one.
        overdue = self.occupied_for >= self._command_patience()
        return overdue and self._occupied_readings > 1


def is_operation_pause(reading: HostReading) -> bool:
    """Return whether libvirt pauses the guest for an operation of QEMU."""
    return reading.state == states.PAUSED and reading.reason in OPERATION_PAUSES


def _is_idle(before: ThreadReading, now: ThreadReading) -> bool:
    """Return whether a thread has not run between the readings."""
    return (before.state, before.runs, before.cpu_ns) == (now.state, now.runs, now.cpu_ns)
