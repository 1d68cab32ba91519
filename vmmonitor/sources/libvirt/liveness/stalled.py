# SPDX-License-Identifier: Apache-2.0
"""Whether the guest of one instance hangs, from what it does not do. Pure.

What each kind of guest does, and what can be told from it:

=====================  =================  ===================  =============================
Guest                  vCPU threads       KVM exits            block and net, balloon driver
=====================  =================  ===================  =============================
idle                   run at each timer  move                 stand still, answers
busy                   always want to     move with its timer  move, answers
halted, no interrupts  asleep             stand still          stand still, silent
spins, no interrupts   always want to     only the host's own  stand still, silent
=====================  =================  ===================  =============================

A signal is one measure that stands still for a whole window though it should not. One is a
suspicion, two are a failure, and anything that moves and that only a living guest can move ends
both.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping

from vmmonitor.sources.libvirt.liveness.readings import QemuReading, ThreadReading
from vmmonitor.sources.libvirt.liveness.settings import LivenessSettings

FAILED = "failed"
SUSPECT = "suspect"

#: Under TCG QEMU's timers go on waking a vCPU that is halted with interrupts off. It looks, and
#: sleeps again: some 10 us each, where an idle guest that handles the interrupt takes 150 us.
VAIN_NS = 40_000
#: Of one CPU: with less, and without a single exit of its own, a guest under KVM does nothing.
NEXT_TO_NOTHING = 0.001
#: Of the time: a thread that ran or wanted to for so much of it never paused. How long it has
#: been waiting for a CPU is counted only when it gets one.
ALWAYS = 0.9
#: A second. What makes a guest that spins exit is the host (a watchdog, pages that are moved).
FEW_EXITS = 0.5
#: What has moved so often is missed when it does not.
HABIT = 2
#: Periods of the balloon driver that may pass without a word of it.
BALLOON_PERIODS = 3
#: Intervals between two answers above which nobody knows what happened in between.
GAP = 2.5
#: Answers of which one is complete, while nothing is suspicious.
STRIDE = 3
#: Seconds for which the host has slept between two answers, at least.
SLEPT = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StallAssessment:
    """What a guest looks like.

    :param detail: FAILED, SUSPECT, or empty.
    :param signals: what stands still: ``cpu``, ``exits``, ``io``, ``balloon``.
    :param alive: it has just done what only a living guest does.
    :param cpu_time_s: what its vCPUs used over the last window.
    """

    detail: str = ""
    signals: tuple[str, ...] = ()
    alive: bool = False
    cpu_time_s: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class ReadingPair:
    """Two answers, one after the other."""

    before: QemuReading
    now: QemuReading

    @property
    def elapsed(self) -> float:
        """Seconds between them."""
        return self.now.at - self.before.at

    def still(self, *names: str) -> bool | None:
        """Return whether no counter of these moved, None if none of them is known."""
        both = [(getattr(self.before, name), getattr(self.now, name)) for name in names]
        known = [before == now for before, now in both if None not in (before, now)]
        return all(known) if known else None

    def few_exits(self) -> bool | None:
        """Return whether the guest hardly ever left its vCPUs, None if it is not known."""
        if self.before.exits is None or self.now.exits is None:
            return None
        return self.now.exits - self.before.exits < FEW_EXITS * self.elapsed

    def connected(self, settings: LivenessSettings) -> bool:
        """Whether nothing can have happened between them that nobody knows of."""
        slept = self.now.awake_at - self.before.awake_at - self.elapsed
        return (
            0 < self.elapsed <= GAP * settings.interval
            and abs(slept) < SLEPT
            and set(_threads(self.before)) == set(_threads(self.now))
        )

    def threads(self) -> list[tuple[ThreadReading, ThreadReading]]:
        """Return each vCPU before and now."""
        before, now = _threads(self.before), _threads(self.now)
        return [(before[number], now[number]) for number in now]

    def asleep(self) -> bool:
        """Whether no vCPU did anything."""
        return all(self._sleeps(*both) for both in self.threads())

    def pinned(self) -> bool:
        """Whether some vCPUs never paused, and the others did nothing."""
        pinned = [self._pinned(*both) for both in self.threads()]
        return any(pinned) and all(
            is_pinned or self._sleeps(*both)
            for is_pinned, both in zip(pinned, self.threads(), strict=True)
        )

    def cpu_ns(self) -> int:
        """Return what the vCPUs used."""
        return sum(now.cpu_ns - before.cpu_ns for before, now in self.threads())

    def _sleeps(self, before: ThreadReading, now: ThreadReading) -> bool:
        if (before.state, now.state) != ("S", "S"):
            # It waits for a CPU, or for the host's memory.
            return False
        runs, used = now.runs - before.runs, now.cpu_ns - before.cpu_ns
        if runs == 0:
            return True
        if self.now.vcpus and self.now.vcpus.emulated:
            return used < VAIN_NS * runs
        return self.few_exits() is True and used < NEXT_TO_NOTHING * self.elapsed * 1e9

    def _pinned(self, before: ThreadReading, now: ThreadReading) -> bool:
        wanted = now.cpu_ns - before.cpu_ns + now.delay_ns - before.delay_ns
        return wanted >= ALWAYS * self.elapsed * 1e9


#: What is followed -> whether it stood still between two answers (None: not known).
STILL: Mapping[str, Callable[[ReadingPair], bool | None]] = {
    "asleep": ReadingPair.asleep,
    "pinned": ReadingPair.pinned,
    "exits": ReadingPair.few_exits,
    "io": lambda pair: pair.still("io", "sent"),
    "balloon": lambda pair: pair.still("balloon_at"),
}


class Stalled:
    """Watches the guest of one instance, from answer to answer."""

    def __init__(self, settings: LivenessSettings):
        """Know nothing yet."""
        self._settings = settings
        self.forget()

    def forget(self) -> None:
        """Something happened to the instance: what was measured before says nothing any more."""
        self._before: QemuReading | None = None
        #: What stands still -> since when.
        self._since: dict[str, float] = {}
        #: What has moved -> how many times, and the longest time that it took to.
        self._moves: dict[str, int] = {"io": 0, "balloon": 0}
        self._balloon_period = 0.0
        self._spoke_at: float | None = None
        #: Answers that were not complete, since one that was.
        self._incomplete = 0
        self._suspicious = False
        self._lively = 0
        self._used: list[tuple[float, int]] = []

    @property
    def wants_complete(self) -> bool:
        """Whether the next answer should be complete, which costs more."""
        return self._before is None or self._suspicious or self._incomplete >= STRIDE - 1

    def answered(self, answer: QemuReading, agent_answered: bool = False) -> StallAssessment:
        """Take in the next answer and return what the guest looks like.

        :param agent_answered: its guest agent has spoken since the last one.
        """
        if not _threads(answer):
            self.forget()
            return StallAssessment()
        before = self._before
        answer = self._before = _completed(answer, before)
        self._incomplete = 0 if answer.complete else self._incomplete + 1
        if before is None:
            return StallAssessment()
        pair = ReadingPair(before, answer)
        if not pair.connected(self._settings):
            self.forget()
            self._before = answer
            return StallAssessment()
        still = {name: look(pair) for name, look in STILL.items()}
        self._take_in(pair, still)
        self._suspicious = bool(still["asleep"] or still["pinned"])
        spoke = agent_answered or still["io"] is False or still["balloon"] is False
        if spoke:
            self._spoke_at = answer.at
        verdict = self._verdict(answer.at, still, spoke)
        return verdict if answer.complete else StallAssessment(alive=verdict.alive)

    def _take_in(self, pair: ReadingPair, still: Mapping[str, bool | None]) -> None:
        if still["balloon"] is False and self._moves["balloon"]:
            started = self._since.get("balloon", pair.before.at)
            self._balloon_period = max(self._balloon_period, pair.now.at - started)
        for name, is_still in still.items():
            if not is_still:
                self._since.pop(name, None)
            else:
                self._since.setdefault(name, pair.before.at)
        for name in self._moves:
            self._moves[name] += still[name] is False
        self._used.append((pair.now.at, pair.cpu_ns()))
        started = pair.now.at - self._settings.window
        self._used = [*itertools.dropwhile(lambda used: used[0] < started, self._used)]

    def _verdict(
        self, at: float, still: Mapping[str, bool | None], spoke: bool
    ) -> StallAssessment:
        standing = {name for name in self._since if self._for_long(name, at)}
        cpu_time_s = sum(used for _, used in self._used) / 1e9
        works = not still["asleep"] and not still["pinned"]
        exits_move = still["exits"] is False
        self._lively = self._lively + 1 if (exits_move or still["exits"] is None) and works else 0
        # One noisy measure of a scheduler is no proof of life; two are.
        alive = spoke or (exits_move and not still["pinned"]) or self._lively > 1
        spoke_lately = self._spoke_at is not None and at - self._spoke_at < self._settings.window
        signals = () if spoke_lately else _signals(standing)
        detail = ""
        if signals:
            certain = len(signals) > 1 and not exits_move
            detail = FAILED if certain else SUSPECT
        return StallAssessment(detail=detail, signals=signals, alive=alive, cpu_time_s=cpu_time_s)

    def _for_long(self, name: str, at: float) -> bool:
        """Whether it stands still for the whole window, and is one that should not."""
        window = self._settings.window
        if name in self._moves and self._moves[name] < HABIT:
            return False
        if name == "balloon":
            window = max(window, BALLOON_PERIODS * self._balloon_period)
        return at - self._since[name] >= window


def _signals(standing: set[str]) -> tuple[str, ...]:
    """Return the independent signals among what stands still for long.

    A vCPU that never pauses is one only beside KVM's word that its guest does nothing: it may
    just as well be busy.
    """
    others = [name for name in ("exits", "io", "balloon") if name in standing]
    if "asleep" in standing or {"pinned", "exits"} <= standing:
        return ("cpu", *others)
    if "pinned" in standing or "exits" in standing:
        return tuple(others)
    return ()


def _completed(answer: QemuReading, before: QemuReading | None) -> QemuReading:
    """Return an answer with what was not asked for as it was before.

    Whether it moved meanwhile shows in the next one that is complete, before any verdict.
    """
    if answer.complete or before is None:
        return answer
    return dataclasses.replace(
        answer, sent=before.sent, exits=before.exits, balloon_at=before.balloon_at
    )


def _threads(answer: QemuReading) -> Mapping[int, ThreadReading]:
    return answer.vcpus.threads if answer.vcpus else {}
