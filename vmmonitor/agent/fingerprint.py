# SPDX-License-Identifier: Apache-2.0
"""Knows when one failure is told in several words, and makes one event of it. Pure.

libvirt's word leads: it is told at once, always. What tells the same again is dropped if it comes
after that word; if it comes before, it waits for it for a moment and gives it what it knows
besides. So nothing that recovers an instance, or tells its state, is dropped or comes late.
"""

import collections
import dataclasses
import json
from collections.abc import Mapping, Sequence

from vmmonitor.model.event import RawEvent

#: Why a word is dropped, as it is counted.
TOLD_ALREADY = "told-already"

#: Microseconds between the times of two words of one failure. libvirt passes both on within 2 ms
#: of each other; a loaded host takes longer.
WINDOW = 2_000_000
#: Seconds for which a word waits for the one that leads.
HOLD = 0.25
#: Words that wait at the same time; then the one that has waited longest is told.
MAX_HELD = 1024
#: Failures, and how often each was told, that are remembered.
MAX_KEYS = 256
MAX_TOLD = 512

#: Source and type of a word.
Voice = tuple[str, str]
Key = tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Word:
    """How a word is compared with others on the same subject.

    :param by: attributes in which words of one failure are equal.
    :param details: detail -> that of the leading word.
    :param leads: it is the one that is kept.
    :param says_more: attributes with which it is not a mere repetition, if they are not empty.
    :param hold: seconds for which it waits for the one that leads.
    """

    subject: str
    by: Sequence[str] = ()
    details: Mapping[str, str] = dataclasses.field(default_factory=dict)
    leads: bool = False
    says_more: Sequence[str] = ()
    hold: float = HOLD


_DISK = ("device",)
_MEMORY = ("recipient", "flags")
WORDS: Mapping[Voice, Word] = {
    ("libvirt", "io_error"): Word(subject="disk", by=_DISK, leads=True),
    ("libvirt", "io_error_reason"): Word(subject="disk", by=_DISK, says_more=("reason",)),
    ("qmp", "block_io_error"): Word(
        subject="disk", by=_DISK, details={"stop": "pause", "ignore": "none"}
    ),
    ("libvirt", "lifecycle.crashed"): Word(subject="panic", leads=True),
    ("qmp", "guest_panicked"): Word(
        subject="panic",
        details=dict.fromkeys(("pause", "poweroff", "run"), "panicked"),
        says_more=("info",),
        # libvirt tells of it when it has the domain to itself.
        hold=2.0,
    ),
    ("libvirt", "memory_failure"): Word(subject="memory", by=_MEMORY, leads=True),
    ("qmp", "memory_failure"): Word(subject="memory", by=_MEMORY),
}
_FOLLOWERS = {
    subject: [v for v, word in WORDS.items() if word.subject == subject and not word.leads]
    for subject in {word.subject for word in WORDS.values()}
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Fingerprint:
    """What a word is about: two words with the same key may tell of one failure.

    :param leads: as in Word.
    """

    key: Key
    voice: Voice
    leads: bool


def fingerprint(raw: RawEvent) -> Fingerprint | None:
    """Return what the event is about; None where nothing else tells the same."""
    voice = (raw.source, raw.type)
    word = WORDS.get(voice)
    if word is None or any(raw.attributes.get(name) for name in word.says_more):
        return None
    values = [raw.attributes.get(name) for name in word.by]
    if any(value in (None, "") for value in values):
        return None
    detail = word.details.get(raw.detail, raw.detail)
    told = [value if isinstance(value, str) else json.dumps(value) for value in values]
    return Fingerprint(
        key=(word.subject, raw.instance.uuid, detail, *told), voice=voice, leads=word.leads
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """A word that waits for the one that leads.

    :param until: monotonic time.
    """

    raw: RawEvent
    until: float


class Retellings:
    """Remembers for a moment what was told. For one thread."""

    def __init__(self, dropped: "collections.Counter[str]"):
        """Start with nothing told.

        :param dropped: counts what is dropped.
        """
        self._dropped = dropped
        # What a voice has not repeated yet: the times at which the leading word came.
        self._told: collections.OrderedDict[tuple[Key, Voice], collections.deque[int]] = (
            collections.OrderedDict()
        )
        self._held: dict[tuple[Key, Voice], collections.deque[Held]] = {}
        self._count = 0

    def sift(self, raw: RawEvent, now: float, wait: bool) -> list[RawEvent]:
        """Take in an event; return what is to be told of it now.

        :param now: monotonic time, seconds.
        :param wait: whether there is a source of leading words to wait for.
        """
        mark = fingerprint(raw)
        if mark is None:
            return [raw]
        if mark.leads:
            return [self._lead(mark, raw)]
        if self._is_told(mark, raw):
            self._dropped[TOLD_ALREADY] += 1
            return []
        if not wait:
            return [raw]
        self._held.setdefault((mark.key, mark.voice), collections.deque()).append(
            Held(raw=raw, until=now + WORDS[mark.voice].hold)
        )
        self._count += 1
        return [self._take(min(self._held, key=self._until))] if self._count > MAX_HELD else []

    def due(self, now: float) -> list[RawEvent]:
        """Return the words that have waited in vain, and need not wait any longer.

        :param now: monotonic time, seconds; infinite for all of them.
        """
        told = []
        while self._held:
            first = min(self._held, key=self._until)
            if self._until(first) > now:
                break
            told.append(self._take(first))
        return told

    def patience(self, now: float) -> float | None:
        """Return the seconds until a word is due; None while none waits.

        :param now: monotonic time, seconds.
        """
        return max(0.0, min(map(self._until, self._held)) - now) if self._held else None

    # -- the word that leads -------------------------------------------------------------------
    def _lead(self, mark: Fingerprint, raw: RawEvent) -> RawEvent:
        """Return the event with what those that came before it know besides."""
        attributes = dict(raw.attributes)
        for voice in _FOLLOWERS[mark.key[0]]:
            place = (mark.key, voice)
            first = self._held.get(place)
            if first and _is_near(first[0].raw.occurred_at, raw):
                attributes = {**self._take(place).attributes, **attributes}
                self._dropped[TOLD_ALREADY] += 1
            else:
                self._remember(place, raw.occurred_at)
        return dataclasses.replace(raw, attributes=attributes)

    def _remember(self, place: tuple[Key, Voice], occurred_at: int) -> None:
        if place not in self._told:
            self._told[place] = collections.deque(maxlen=MAX_TOLD)
        self._told[place].append(occurred_at)
        self._told.move_to_end(place)
        if len(self._told) > MAX_KEYS:
            self._told.popitem(last=False)

    # -- the words that follow -----------------------------------------------------------------
    def _is_told(self, mark: Fingerprint, raw: RawEvent) -> bool:
        """Tell whether a leading word told the same, which nothing has repeated yet."""
        moments = self._told.get((mark.key, mark.voice))
        while moments:
            if _is_near(moments.popleft(), raw):
                return True
        return False

    def _until(self, place: tuple[Key, Voice]) -> float:
        return self._held[place][0].until

    def _take(self, place: tuple[Key, Voice]) -> RawEvent:
        held = self._held[place]
        raw = held.popleft().raw
        self._count -= 1
        if not held:
            del self._held[place]
        return raw


def _is_near(occurred_at: int, raw: RawEvent) -> bool:
    return abs(occurred_at - raw.occurred_at) <= WINDOW
