# SPDX-License-Identifier: Apache-2.0
"""Whether the QEMU of one instance hangs. Pure."""

from collections.abc import Mapping

from vmmonitor.model import instance as states
from vmmonitor.sources.libvirt.liveness.readings import HostReading, ThreadReading
from vmmonitor.sources.libvirt.liveness.settings import LivenessSettings

STOPPED = "stopped"
UNINTERRUPTIBLE = "uninterruptible"
ZOMBIE = "zombie"
MONITOR = "monitor"

#: State of QEMU's main thread -> what it is called if it lasts.
LASTING: Mapping[str, str] = {"T": STOPPED, "Z": ZOMBIE, "X": ZOMBIE, "D": UNINTERRUPTIBLE}
#: libvirt keeps the guest paused for something that QEMU is doing, and may take long over.
AT_WORK = frozenset(
    {
        *("migration", "postcopy", "save", "dump", "snapshot", "from_snapshot"),
        *("starting_up", "shutting_down"),
    }
)
#: A QEMU whose main thread moves is at work (pinning memory, writing a snapshot), or it is in an
#: endless loop. It gets so many deadlines.
PATIENCE = 4
#: Seconds by which two clocks may differ over one look.
SLACK = 0.5
#: Seconds between two looks at the least.
PAUSE = 0.5


class Hung:
    """Watches the QEMU of one instance, from look to look."""

    def __init__(self, settings: LivenessSettings):
        """Know nothing yet."""
        self._settings = settings
        self._looked: HostReading | None = None
        #: Since when the main thread is in a state that should not last, and has not run.
        self._lasting_since = 0.0
        #: Seconds for which QEMU has been at the same command, as far as was seen here.
        self.occupied_for = 0.0
        self._occupied_looks = 0
        #: The main thread has run since then.
        self._moves = False
        #: Since when it has been asked without an answer.
        self._asked_at: float | None = None

    @property
    def unanswered(self) -> bool:
        """Whether it was asked and has not answered."""
        return self._asked_at is not None

    def asked(self, at: float) -> None:
        """QEMU was asked something."""
        if self._asked_at is None:
            self._asked_at = at

    def answered(self) -> None:
        """QEMU has answered."""
        self._asked_at = None

    def look(self, look: HostReading) -> str:
        """Return how it hangs, empty if it does not."""
        before, self._looked = self._looked, look
        unmoved = bool(before and before.main and look.main and _same(before.main, look.main))
        if not (unmoved and look.main and look.main.state in LASTING):
            self._lasting_since = look.at
        self._take_in_occupied(before, look, unmoved)
        lasting = LASTING.get(look.main.state, "") if look.main else ""
        if lasting and look.at - self._lasting_since >= self._patience(lasting):
            return lasting
        if not self._silent(look):
            return ""
        return lasting or MONITOR

    def due(self) -> float | None:
        """Return when the next look is worth it, None if the next round is soon enough."""
        look = self._looked
        if look is None:
            return None
        deadline = self._settings.deadline
        when = []
        if look.main and look.main.state in LASTING:
            when.append(self._lasting_since + self._patience(LASTING[look.main.state]))
        if look.occupied_s is not None:
            when.append(look.at + self._monitor_patience() - self.occupied_for)
        elif self._asked_at is not None:
            # Half-way, since it takes two looks to tell whether anything moves meanwhile.
            when.append(max(self._asked_at + deadline / 2, look.at + deadline / 4))
        return max(min(when), look.at + PAUSE) if when else None

    def silent_for(self, at: float) -> float:
        """Return for how many seconds it has hung at a moment, as far as was seen."""
        look = self._looked
        lasting = look is not None and look.main is not None and look.main.state in LASTING
        return max(self.occupied_for, at - self._lasting_since if lasting else 0.0)

    def signals(self) -> list[str]:
        """Return what the last look showed: the state of the process, a command unanswered."""
        look = self._looked
        if look is None:
            return []
        process = LASTING.get(look.main.state, "") if look.main else ""
        return [*([process] if process else []), *([MONITOR] if self._occupied_looks else [])]

    def _patience(self, lasting: str) -> float:
        settings = self._settings
        if lasting == UNINTERRUPTIBLE:
            # Storage may come back.
            return max(settings.deadline, settings.window)
        return settings.deadline

    def _monitor_patience(self) -> float:
        return self._settings.deadline * (PATIENCE if self._moves else 1)

    def _take_in_occupied(
        self, before: HostReading | None, look: HostReading, unmoved: bool
    ) -> None:
        if look.occupied_s is None:
            self.occupied_for, self._occupied_looks = 0.0, 0
            self._moves = False
            return
        elapsed = look.at - before.at if before else 0.0
        started = None if before is None else before.occupied_s
        # libvirt counts by a clock that may be set: believe it for the time since the last look.
        if started is not None and abs(look.occupied_s - started - elapsed) < SLACK:
            self.occupied_for += elapsed
            self._occupied_looks += 1
            self._moves = self._moves or not unmoved
        else:
            self.occupied_for = max(0.0, min(look.occupied_s, elapsed))
            self._occupied_looks = 1
            self._moves = False

    def _silent(self, look: HostReading) -> bool:
        """Whether one command has been without an answer for too long."""
        if look.occupied_s is None or (look.state == states.PAUSED and look.reason in AT_WORK):
            return False
        # Two looks, or a clock that is set forth would make a new command an old one.
        long_enough = self.occupied_for >= self._monitor_patience()
        return long_enough and self._occupied_looks > 1


def _same(before: ThreadReading, now: ThreadReading) -> bool:
    """Whether a thread has not run at all between two looks."""
    return (before.state, before.runs, before.cpu_ns) == (now.state, now.runs, now.cpu_ns)
