# SPDX-License-Identifier: Apache-2.0
"""Derives findings from the readings of one run of one instance. Pure; the clock is passed in."""

from collections.abc import Mapping

from vmmonitor.model import instance as states
from vmmonitor.sources.libvirt.liveness import hung, stalled
from vmmonitor.sources.libvirt.liveness.facts import AGENT_SILENT, FactKind, Facts, Finding
from vmmonitor.sources.libvirt.liveness.readings import HostReading, QemuReading
from vmmonitor.sources.libvirt.liveness.settings import LivenessSettings

#: Reasons of a pause that a user ordered, or that ends by itself.
INTENDED_PAUSES = hung.OPERATION_PAUSES | {"user"}
#: Reason of a running guest whose memory is still on the other host, which vCPUs may wait for.
POSTCOPY = "postcopy"
#: Minimum number of unanswered pings of a guest agent that make a finding.
MIN_PINGS = 2


class Judge:
    """Turns the readings of one run of one instance into findings."""

    def __init__(self, settings: LivenessSettings, known: Facts):
        """Start a run.

        :param known: the facts of this run that an earlier agent has reported.
        """
        self.facts = known
        self._settings = settings
        self._hung = hung.Hung(settings)
        self._stalled = stalled.Stalled(settings)
        self._reading: HostReading | None = None
        #: (reason of the current pause, time of its first reading).
        self._pause: tuple[str, float] = ("", 0.0)
        #: Devices with an error that QEMU still reports although the guest has been resumed.
        self._old_errors: set[str] = set()
        #: True if disk errors were read since the last disturbance.
        self._disks_known = False
        #: Reason of a pause that another source has reported.
        self._reported_pause = ""
        self._agent_answered_recently = False
        self._agent_has_answered = False
        self._failed_pings = 0
        self._pings_fail_since = 0.0

    # -- events of other sources ---------------------------------------------------------------
    def disturb(self) -> None:
        """Discard measurements, because something happened to the instance."""
        self._stalled.reset()
        self._reported_pause = ""
        self._disks_known = False
        self._agent_has_answered = False
        self._failed_pings = 0

    def set_reported_pause(self, reason: str) -> None:
        """Record that another source has reported a pause, and its reason."""
        self._reported_pause = reason

    # -- host readings -------------------------------------------------------------------------
    def add_host_reading(self, reading: HostReading, now: int) -> list[Finding]:
        """Add a reading of the host and return the findings.

        :param now: microseconds since the epoch.
        """
        before, self._reading = self._reading, reading
        if reading.state != states.RUNNING or reading.reason == POSTCOPY:
            self._stalled.reset()
        findings = self._check_pause(reading, now) + self._check_resume(before, reading, now)
        if detail := self._hung.add(reading):
            attributes = {
                "lasted_s": round(self._hung.silent_for(reading.at), 3),
                "signals": self._hung.signals(),
            }
            findings += self.facts.begin(FactKind.HUNG, detail, now, attributes)
        return findings

    @property
    def unanswered(self) -> bool:
        """True if QEMU has not answered a query yet."""
        return self._hung.unanswered

    def discard_readings(self) -> None:
        """Restart, because no reading was possible: it has ended, or libvirt has just started."""
        self._hung = hung.Hung(self._settings)
        self._stalled.reset()

    def may_ask(self) -> bool:
        """Return whether QEMU may be asked: no command or operation is in progress."""
        reading = self._reading
        return (
            reading is not None
            and reading.occupied_s is None
            and reading.state in states.ALIVE
            and not hung.is_operation_pause(reading)
        )

    def wants_complete(self) -> bool:
        """Return whether to read all counters."""
        return self._stalled.wants_complete or bool(self.facts.detail(FactKind.STALLED))

    def wants_disk_errors(self) -> bool:
        """Return whether to read disk errors; an error that libvirt remembers pauses the guest."""
        paused = self._reading is not None and self._reading.state == states.PAUSED
        return paused or not self._disks_known or bool(self.facts.devices(FactKind.DISK_ERROR))

    def next_reading_at(self) -> float | None:
        """Return the time of the next useful reading; None if the next round is early enough."""
        return None if self.facts.detail(FactKind.HUNG) else self._hung.next_reading_at()

    # -- QEMU readings -------------------------------------------------------------------------
    def note_question(self, at: float) -> None:
        """Record that QEMU is asked something.

        :param at: seconds of CLOCK_MONOTONIC.
        """
        self._hung.note_question(at)

    def withdraw_question(self) -> None:
        """Record that the question did not reach QEMU: libvirt or the instance is gone."""
        self._hung.note_answer()
        self._stalled.reset()

    def add_qemu_reading(self, reading: QemuReading, now: int) -> list[Finding]:
        """Add the result of a question and return the findings.

        :param now: microseconds since the epoch.
        """
        if not reading.done:
            self._stalled.reset()
            return []
        self._hung.note_answer()
        findings = self.facts.end(FactKind.HUNG, now)
        if reading.disk_errors is not None:
            self._disks_known = True
            findings += self._check_disks(reading.disk_errors, now)
        host = self._reading
        if host is None or host.state != states.RUNNING or host.reason == POSTCOPY:
            return findings
        return findings + self._check_stall(reading, now)

    def add_ping(self, answered: bool, at: float, now: int) -> list[Finding]:
        """Add the result of a ping of the guest agent and return the findings.

        An agent that has not answered since the guest started may not be installed, or may still
        be starting.

        :param at: seconds of CLOCK_MONOTONIC.
        :param now: microseconds since the epoch.
        """
        if answered:
            self._agent_answered_recently = self._agent_has_answered = True
            self._failed_pings = 0
            return self.facts.end(FactKind.GUEST_AGENT, now)
        if not self._agent_has_answered:
            return []
        if not self._failed_pings:
            self._pings_fail_since = at
        self._failed_pings += 1
        silent_s = at - self._pings_fail_since
        if self._failed_pings < MIN_PINGS or silent_s < self._settings.window:
            return []
        attributes = {"lasted_s": round(silent_s, 3), "pings": self._failed_pings}
        return self.facts.begin(FactKind.GUEST_AGENT, AGENT_SILENT, now, attributes)

    # -- single facts --------------------------------------------------------------------------
    def _check_stall(self, reading: QemuReading, now: int) -> list[Finding]:
        answered, self._agent_answered_recently = self._agent_answered_recently, False
        assessment = self._stalled.add(reading, answered)
        if assessment.detail:
            attributes = {
                "signals": list(assessment.signals),
                "window_s": self._settings.window,
                "cpu_time_s": round(assessment.cpu_time_s, 6),
                "answered_in_ms": round(reading.took_s * 1000, 3),
            }
            return self.facts.begin(FactKind.STALLED, assessment.detail, now, attributes)
        return self.facts.end(FactKind.STALLED, now) if assessment.alive else []

    def _check_pause(self, reading: HostReading, now: int) -> list[Finding]:
        reason = _failure_reason(reading)
        findings = []
        if self.facts.detail(FactKind.PAUSED) not in ("", reason):
            findings = self.facts.end(FactKind.PAUSED, now)
        before, since = self._pause
        if reason != before:
            self._pause = (reason, reading.at)
            return findings
        # At the first reading, the event of the pause may still be on its way.
        lasted = reading.at - since
        is_reported = reason == self._reported_pause
        if not reason or is_reported or lasted < self._settings.interval / 2:
            return findings
        attributes = {"lasted_s": round(lasted, 3)}
        return findings + self.facts.begin(FactKind.PAUSED, reason, now, attributes)

    def _check_resume(
        self, before: HostReading | None, reading: HostReading, now: int
    ) -> list[Finding]:
        """End the disk errors that paused the guest, when the guest is resumed.

        QEMU reports the errors until it ends: ``cont`` resets only disks with a backend name, and
        libvirt assigns none.
        """
        if reading.state == states.PAUSED:
            self._old_errors.clear()
        if reading.state != states.RUNNING or before is None or before.state != states.PAUSED:
            return []
        self._old_errors = self.facts.devices(FactKind.DISK_ERROR)
        return [
            finding
            for device in sorted(self._old_errors)
            for finding in self.facts.end(FactKind.DISK_ERROR, now, device)
        ]

    def _check_disks(self, errors: Mapping[str, str], now: int) -> list[Finding]:
        findings = []
        for device in sorted(self.facts.devices(FactKind.DISK_ERROR) - set(errors)):
            findings += self.facts.end(FactKind.DISK_ERROR, now, device)
        self._old_errors &= set(errors)
        for device in sorted(set(errors) - self._old_errors):
            findings += self.facts.begin(FactKind.DISK_ERROR, errors[device], now, {}, device)
        return findings


def _failure_reason(reading: HostReading) -> str:
    """Return why the guest is paused or crashed; empty without a failure."""
    if reading.state == states.CRASHED:
        return "crashed"
    if reading.state == states.PAUSED and reading.reason not in INTENDED_PAUSES:
        return reading.reason
    return ""
