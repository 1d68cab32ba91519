# SPDX-License-Identifier: Apache-2.0
"""Everything that is decided about one run of one instance. Pure; the clock is passed in."""

from collections.abc import Mapping

from vmmonitor.model import instance as states
from vmmonitor.sources.libvirt.liveness import facts, hung, stalled
from vmmonitor.sources.libvirt.liveness.facts import Facts, Finding
from vmmonitor.sources.libvirt.liveness.readings import HostReading, QemuReading
from vmmonitor.sources.libvirt.liveness.settings import LivenessSettings

#: Reasons of a pause that somebody asked for, or that passes by itself.
WANTED = hung.AT_WORK | {"user"}
#: A vCPU waits for memory that is still on the other host.
ARRIVING = "postcopy"
#: Silent pings of a guest agent that make a fact, at least.
PINGS = 2


class Judge:
    """Turns what is measured of one run of one instance into what is to be told of it."""

    def __init__(self, settings: LivenessSettings, known: Facts):
        """Start a run.

        :param known: what was told of this run before.
        """
        self.facts = known
        self._settings = settings
        self._hung = hung.Hung(settings)
        self._stalled = stalled.Stalled(settings)
        self._looked: HostReading | None = None
        #: Reason of a pause -> since when it has been seen.
        self._paused: tuple[str, float] = ("", 0.0)
        #: Disks with an error that QEMU goes on naming, though the guest went on since.
        self._old_errors: set[str] = set()
        #: Nothing happened to it since they were asked about.
        self._disks_known = False
        #: Reason of a pause of which another source has told.
        self._told_pause = ""
        self._agent_spoke = False
        self._agent_answers = False
        self._pings_in_vain = 0
        self._in_vain_since = 0.0

    # -- what happens --------------------------------------------------------------------------
    def disturbed(self) -> None:
        """Something happened to the instance: what was measured before says nothing any more."""
        self._stalled.forget()
        self._told_pause = ""
        self._disks_known = False
        self._agent_answers = False
        self._pings_in_vain = 0

    def pause_told(self, reason: str) -> None:
        """Another source has told that it is paused, and why."""
        self._told_pause = reason

    # -- what is seen --------------------------------------------------------------------------
    def look(self, look: HostReading, now: int) -> list[Finding]:
        """Take in a look and return what is to be told.

        :param now: microseconds since the epoch.
        """
        before, self._looked = self._looked, look
        if look.state != states.RUNNING or look.reason == ARRIVING:
            self._stalled.forget()
        words = self._paused_words(look, now) + self._resumed_words(before, look, now)
        if how := self._hung.look(look):
            attributes = {
                "lasted_s": round(self._hung.silent_for(look.at), 3),
                "signals": self._hung.signals(),
            }
            words += self.facts.begin(facts.HUNG, how, now, attributes)
        return words

    @property
    def unanswered(self) -> bool:
        """Whether QEMU was asked and has not answered."""
        return self._hung.unanswered

    def not_seen(self) -> None:
        """It could not be looked at: it has just ended, or libvirt has just started."""
        self._hung = hung.Hung(self._settings)
        self._stalled.forget()

    def may_be_asked(self) -> bool:
        """Whether QEMU may be asked something: it is not at another command, nor at work."""
        look = self._looked
        return (
            look is not None
            and look.occupied_s is None
            and look.state in states.ALIVE
            and not (look.state == states.PAUSED and look.reason in hung.AT_WORK)
        )

    def wants_complete(self) -> bool:
        """Whether to ask for all counters."""
        return self._stalled.wants_complete or bool(self.facts.detail(facts.STALLED))

    def wants_disk_errors(self) -> bool:
        """Whether to ask for them too: an error that libvirt remembers has paused the guest."""
        paused = self._looked is not None and self._looked.state == states.PAUSED
        return paused or not self._disks_known or bool(self.facts.devices(facts.DISK_ERROR))

    def due(self) -> float | None:
        """Return when the next look is worth it, None if the next round is soon enough."""
        return None if self.facts.detail(facts.HUNG) else self._hung.due()

    # -- what is asked -------------------------------------------------------------------------
    def asked(self, at: float) -> None:
        """QEMU was asked something, at this second of the clock of the looks."""
        self._hung.asked(at)

    def not_asked(self) -> None:
        """What asked QEMU came back before it did: libvirt is away, or the instance is."""
        self._hung.answered()
        self._stalled.forget()

    def answered(self, answer: QemuReading, now: int) -> list[Finding]:
        """Take in what came of it and return what is to be told.

        :param now: microseconds since the epoch.
        """
        if not answer.done:
            self._stalled.forget()
            return []
        self._hung.answered()
        words = self.facts.end(facts.HUNG, now)
        if answer.disk_errors is not None:
            self._disks_known = True
            words += self._disk_words(answer.disk_errors, now)
        look = self._looked
        if look is None or look.state != states.RUNNING or look.reason == ARRIVING:
            return words
        spoke, self._agent_spoke = self._agent_spoke, False
        verdict = self._stalled.answered(answer, spoke)
        if verdict.detail:
            attributes = {
                "signals": list(verdict.signals),
                "window_s": self._settings.window,
                "cpu_time_s": round(verdict.cpu_time_s, 6),
                "answered_in_ms": round(answer.took_s * 1000, 3),
            }
            words += self.facts.begin(facts.STALLED, verdict.detail, now, attributes)
        elif verdict.alive:
            words += self.facts.end(facts.STALLED, now)
        return words

    def agent_answered(self, speaks: bool, at: float, now: int) -> list[Finding]:
        """Take in what came of a ping of the guest agent and return what is to be told.

        One that never spoke since the guest started may not be installed, or still starting.

        :param speaks: it answered.
        :param at: seconds, by the clock of the looks.
        :param now: microseconds since the epoch.
        """
        if speaks:
            self._agent_spoke = self._agent_answers = True
            self._pings_in_vain = 0
            return self.facts.end(facts.GUEST_AGENT, now)
        if not self._agent_answers:
            return []
        if not self._pings_in_vain:
            self._in_vain_since = at
        self._pings_in_vain += 1
        silent_s = at - self._in_vain_since
        if self._pings_in_vain < PINGS or silent_s < self._settings.window:
            return []
        attributes = {"lasted_s": round(silent_s, 3), "pings": self._pings_in_vain}
        return self.facts.begin(facts.GUEST_AGENT, facts.SILENT, now, attributes)

    # -- single facts --------------------------------------------------------------------------
    def _paused_words(self, look: HostReading, now: int) -> list[Finding]:
        why = _pause(look)
        words = []
        if self.facts.detail(facts.PAUSED) not in ("", why):
            words = self.facts.end(facts.PAUSED, now)
        before, since = self._paused
        if why != before:
            self._paused = (why, look.at)
            return words
        # An event of it may still be on its way at the first look.
        lasted = look.at - since
        if not why or why == self._told_pause or lasted < self._settings.interval / 2:
            return words
        return words + self.facts.begin(facts.PAUSED, why, now, {"lasted_s": round(lasted, 3)})

    def _resumed_words(
        self, before: HostReading | None, look: HostReading, now: int
    ) -> list[Finding]:
        """The errors that paused the guest are over when it goes on.

        QEMU names them until it ends: ``cont`` resets only disks that it has a name for, and
        libvirt gives them none.
        """
        if look.state == states.PAUSED:
            self._old_errors.clear()
        if look.state != states.RUNNING or before is None or before.state != states.PAUSED:
            return []
        self._old_errors = self.facts.devices(facts.DISK_ERROR)
        return [
            word
            for device in sorted(self._old_errors)
            for word in self.facts.end(facts.DISK_ERROR, now, device)
        ]

    def _disk_words(self, errors: Mapping[str, str], now: int) -> list[Finding]:
        words = []
        for device in sorted(self.facts.devices(facts.DISK_ERROR) - set(errors)):
            words += self.facts.end(facts.DISK_ERROR, now, device)
        self._old_errors &= set(errors)
        for device in sorted(set(errors) - self._old_errors):
            error = errors[device]
            words += self.facts.begin(facts.DISK_ERROR, error, now, {}, device)
        return words


def _pause(look: HostReading) -> str:
    """Return the reason for which the guest stands still, empty if there is none to tell of."""
    if look.state == states.CRASHED:
        return "crashed"
    return look.reason if look.state == states.PAUSED and look.reason not in WANTED else ""
