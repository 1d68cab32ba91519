# SPDX-License-Identifier: Apache-2.0
"""Detects that the guest of one instance stalls, from the activity that is missing. Pure.

Activity of each kind of guest:

=====================  =================  ===================  =============================
Guest                  vCPU threads       KVM exits            block and net, balloon driver
=====================  =================  ===================  =============================
idle                   run at each timer  increase             no activity, answers
busy                   always want to     increase with timer  activity, answers
halted, no interrupts  asleep             constant             no activity, silent
spins, no interrupts   always want to     only host-caused     no activity, silent
=====================  =================  ===================  =============================

A signal is one measure that shows no activity for a whole window although it should. One signal
is a suspicion, two are a failure. Any activity that only a living guest can cause ends both.
"""

import dataclasses
import enum
import itertools
from collections.abc import Callable, Mapping

from vmmonitor.sources.libvirt.liveness.readings import QemuReading, ThreadReading
from vmmonitor.sources.libvirt.liveness.settings import LivenessSettings


class StallDetail(enum.StrEnum):
    """How certain it is that a guest stalls."""

    FAILED = "failed"
    SUSPECT = "suspect"


#: Maximum CPU time, in nanoseconds, of a wake-up of a halted vCPU under TCG: QEMU's timers wake it
#: for about 10 us, while an idle guest needs 150 us to handle the interrupt.
TCG_WAKEUP_NS = 40_000
#: Share of one CPU below which a guest under KVM without exits of its own is inactive.
INACTIVE_CPU_SHARE = 0.001
#: Minimum share of the time that a vCPU without pauses runs or waits for a CPU. A wait is counted
#: only when it ends, so that the share is less than 1.
PINNED_SHARE = 0.9
#: VM exits per second below which only the host causes them (a watchdog, migrated pages).
FEW_EXITS_RATE = 0.5
#: Minimum number of past activities that make their absence a signal.
MIN_ACTIVITIES = 2
#: Number of periods of the balloon driver that may pass without a report.
BALLOON_PERIODS = 3
#: Maximum number of intervals from one reading to the next; later ones are not compared.
MAX_INTERVALS = 2.5
#: Every n-th reading is complete, while nothing is suspicious.
COMPLETE_READING_STRIDE = 3
#: Minimum difference, in seconds, of two clocks that shows a suspension of the host.
MIN_SUSPENSION = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StallAssessment:
    """Assessment of a guest.

    :param detail: a StallDetail, or empty.
    :param signals: measures without activity: ``cpu``, ``exits``, ``io``, ``balloon``.
    :param alive: the guest has just done something that only a living guest does.
    :param cpu_time_s: CPU time of the vCPUs over the last window, in seconds.
    """

    detail: str = ""
    signals: tuple[str, ...] = ()
    alive: bool = False
    cpu_time_s: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class ReadingPair:
    """Two consecutive readings."""

    before: QemuReading
    now: QemuReading

    @property
    def elapsed(self) -> float:
        """Elapsed time, in seconds, from the first to the second reading."""
        return self.now.at - self.before.at

    def is_constant(self, *names: str) -> bool | None:
        """Return whether none of these counters changed; None if all of them are unknown."""
        both = [(getattr(self.before, name), getattr(self.now, name)) for name in names]
        known = [before == now for before, now in both if None not in (before, now)]
        return all(known) if known else None

    def has_few_exits(self) -> bool | None:
        """Return whether the guest hardly ever left its vCPUs; None if it is unknown."""
        if self.before.exits is None or self.now.exits is None:
            return None
        return self.now.exits - self.before.exits < FEW_EXITS_RATE * self.elapsed

    def is_comparable(self, settings: LivenessSettings) -> bool:
        """Return whether the readings are close in time and of the same threads."""
        suspended = self.now.awake_at - self.before.awake_at - self.elapsed
        return (
            0 < self.elapsed <= MAX_INTERVALS * settings.interval
            and abs(suspended) < MIN_SUSPENSION
            and set(_threads_of(self.before)) == set(_threads_of(self.now))
        )

    def threads(self) -> list[tuple[ThreadReading, ThreadReading]]:
        """Return each vCPU before and now."""
        before, now = _threads_of(self.before), _threads_of(self.now)
        return [(before[number], now[number]) for number in now]

    def is_asleep(self) -> bool:
        """Return whether no vCPU was active."""
        return all(self._sleeps(*both) for both in self.threads())

    def is_pinned(self) -> bool:
        """Return whether some vCPUs never paused, and the others were inactive."""
        pinned = [self._is_pinned(*both) for both in self.threads()]
        return any(pinned) and all(
            is_pinned or self._sleeps(*both)
            for is_pinned, both in zip(pinned, self.threads(), strict=True)
        )

    def cpu_ns(self) -> int:
        """Return the CPU time of the vCPUs, in nanoseconds."""
        return sum(now.cpu_ns - before.cpu_ns for before, now in self.threads())

    def _sleeps(self, before: ThreadReading, now: ThreadReading) -> bool:
        if (before.state, now.state) != ("S", "S"):
            # It waits for a CPU, or for the host's memory.
            return False
        runs, used = now.runs - before.runs, now.cpu_ns - before.cpu_ns
        if runs == 0:
            return True
        if self.now.vcpus and self.now.vcpus.emulated:
            return used < TCG_WAKEUP_NS * runs
        return self.has_few_exits() is True and used < INACTIVE_CPU_SHARE * self.elapsed * 1e9

    def _is_pinned(self, before: ThreadReading, now: ThreadReading) -> bool:
        wanted = now.cpu_ns - before.cpu_ns + now.delay_ns - before.delay_ns
        return wanted >= PINNED_SHARE * self.elapsed * 1e9


#: Measure -> function that returns whether it showed no activity in a pair of readings; None if
#: that is unknown.
MEASURES: Mapping[str, Callable[[ReadingPair], bool | None]] = {
    "asleep": ReadingPair.is_asleep,
    "pinned": ReadingPair.is_pinned,
    "exits": ReadingPair.has_few_exits,
    "io": lambda pair: pair.is_constant("io", "sent"),
    "balloon": lambda pair: pair.is_constant("balloon_at"),
}


class Stalled:
    """Follows the guest of one instance from reading to reading."""

    def __init__(self, settings: LivenessSettings):
        """Start without any reading."""
        self._settings = settings
        self.reset()

    def reset(self) -> None:
        """Discard the readings, because something happened to the instance."""
        self._before: QemuReading | None = None
        #: Measure -> time since which it shows no activity.
        self._inactive_since: dict[str, float] = {}
        #: Measure -> number of its activities.
        self._activities: dict[str, int] = {"io": 0, "balloon": 0}
        #: Longest interval of the reports of the balloon driver, in seconds.
        self._balloon_period = 0.0
        self._guest_active_at: float | None = None
        #: Number of incomplete readings since the last complete one.
        self._incomplete = 0
        self._suspicious = False
        #: Number of consecutive readings with activity of the vCPUs.
        self._lively = 0
        #: (time, CPU time of the vCPUs) of the readings of the last window.
        self._used: list[tuple[float, int]] = []

    @property
    def wants_complete(self) -> bool:
        """True if the next reading should be complete, which costs more."""
        return (
            self._before is None
            or self._suspicious
            or self._incomplete >= COMPLETE_READING_STRIDE - 1
        )

    def add(self, reading: QemuReading, agent_answered: bool = False) -> StallAssessment:
        """Add a reading and return the assessment of the guest.

        :param agent_answered: the guest agent has answered since the last reading.
        """
        if not _threads_of(reading):
            self.reset()
            return StallAssessment()
        before = self._before
        reading = self._before = _complete(reading, before)
        self._incomplete = 0 if reading.complete else self._incomplete + 1
        if before is None:
            return StallAssessment()
        pair = ReadingPair(before, reading)
        if not pair.is_comparable(self._settings):
            self.reset()
            self._before = reading
            return StallAssessment()
        inactive = {name: measure(pair) for name, measure in MEASURES.items()}
        self._update(pair, inactive)
        self._suspicious = bool(inactive["asleep"] or inactive["pinned"])
        guest_active = agent_answered or inactive["io"] is False or inactive["balloon"] is False
        if guest_active:
            self._guest_active_at = reading.at
        assessment = self._assess(reading.at, inactive, guest_active)
        return assessment if reading.complete else StallAssessment(alive=assessment.alive)

    def _update(self, pair: ReadingPair, inactive: Mapping[str, bool | None]) -> None:
        if inactive["balloon"] is False and self._activities["balloon"]:
            started = self._inactive_since.get("balloon", pair.before.at)
            self._balloon_period = max(self._balloon_period, pair.now.at - started)
        for name, is_inactive in inactive.items():
            if not is_inactive:
                self._inactive_since.pop(name, None)
            else:
                self._inactive_since.setdefault(name, pair.before.at)
        for name in self._activities:
            self._activities[name] += inactive[name] is False
        self._used.append((pair.now.at, pair.cpu_ns()))
        started = pair.now.at - self._settings.window
        self._used = [*itertools.dropwhile(lambda used: used[0] < started, self._used)]

    def _assess(
        self, at: float, inactive: Mapping[str, bool | None], guest_active: bool
    ) -> StallAssessment:
        missing = {name for name in self._inactive_since if self._is_missing(name, at)}
        cpu_time_s = sum(used for _, used in self._used) / 1e9
        works = not inactive["asleep"] and not inactive["pinned"]
        exits_change = inactive["exits"] is False
        lively = (exits_change or inactive["exits"] is None) and works
        self._lively = self._lively + 1 if lively else 0
        # One noisy scheduler measure does not prove that the guest lives; two do.
        alive = guest_active or (exits_change and not inactive["pinned"]) or self._lively > 1
        signals = () if self._was_active_recently(at) else _independent_signals(missing)
        detail = ""
        if signals:
            certain = len(signals) > 1 and not exits_change
            detail = StallDetail.FAILED if certain else StallDetail.SUSPECT
        return StallAssessment(detail=detail, signals=signals, alive=alive, cpu_time_s=cpu_time_s)

    def _was_active_recently(self, at: float) -> bool:
        active_at = self._guest_active_at
        return active_at is not None and at - active_at < self._settings.window

    def _is_missing(self, name: str, at: float) -> bool:
        """Return whether a measure that should show activity has shown none for a window."""
        window = self._settings.window
        if name in self._activities and self._activities[name] < MIN_ACTIVITIES:
            return False
        if name == "balloon":
            window = max(window, BALLOON_PERIODS * self._balloon_period)
        return at - self._inactive_since[name] >= window


def _independent_signals(missing: set[str]) -> tuple[str, ...]:
    """Return the independent signals among the measures without activity.

    A vCPU that never pauses is a signal only together with constant KVM exits; otherwise it may be
    busy.
    """
    others = [name for name in ("exits", "io", "balloon") if name in missing]
    if "asleep" in missing or {"pinned", "exits"} <= missing:
        return ("cpu", *others)
    if "pinned" in missing or "exits" in missing:
        return tuple(others)
    return ()


def _complete(reading: QemuReading, before: QemuReading | None) -> QemuReading:
    """Return a reading with the values that were not read taken from the one before.

    The next complete reading, which precedes any assessment, shows whether they have changed.
    """
    if reading.complete or before is None:
        return reading
    return dataclasses.replace(
        reading, sent=before.sent, exits=before.exits, balloon_at=before.balloon_at
    )


def _threads_of(reading: QemuReading) -> Mapping[int, ThreadReading]:
    return reading.vcpus.threads if reading.vcpus else {}
