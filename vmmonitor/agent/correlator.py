# SPDX-License-Identifier: Apache-2.0
"""Event correlation: several reports of one failure become one event. Pure; time is passed in.

libvirt and QEMU report the same disk error, panic or memory failure through two or three event
types. One type per subject is primary: its event is always delivered, and at once. A secondary
report is dropped as ``duplicate-report`` when the primary one has come. A secondary report that
comes first is held for a moment; if the primary one follows, it takes over the attributes of the
held report, else the held report is delivered by itself.
"""

import collections
import dataclasses
import json
from collections.abc import Mapping, Sequence

from vmmonitor.model.event import RawEvent

#: Counter of the reports that were dropped because another source reported the same failure.
DUPLICATE_REPORT = "duplicate-report"

#: The source of the primary reports.
PRIMARY_SOURCE = "libvirt"
#: Maximum difference, in microseconds, between the times of two reports of one failure. libvirt
#: passes both on within 2 ms of each other; a loaded host takes longer.
CORRELATION_WINDOW = 2_000_000
#: Maximum time, in seconds, that a secondary report waits for the primary one.
MAX_WAIT = 0.25
#: Maximum number of held reports. Beyond it, the report held longest is delivered.
MAX_HELD = 1024
#: Maximum number of slots that are remembered, and of unmatched primary reports in each.
MAX_SLOTS = 256
MAX_UNMATCHED = 512

#: (source, type) of an event.
EventKind = tuple[str, str]
FailureKey = tuple[str, ...]
#: A failure, and the secondary kind of event that may repeat it.
Slot = tuple[FailureKey, EventKind]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CorrelationRule:
    """The comparison of one kind of event with others on the same subject.

    :param subject: kind of failure that the event reports.
    :param match_on: attributes that are equal in all reports of one failure.
    :param primary_details: detail of this kind -> detail of the primary kind.
    :param is_primary: this kind is the one that is always delivered.
    :param extra_attributes: attributes that the primary kind lacks: an event with one of them is
        not a duplicate.
    :param max_wait: maximum time, in seconds, that an event waits for the primary one.
    """

    subject: str
    match_on: Sequence[str] = ()
    primary_details: Mapping[str, str] = dataclasses.field(default_factory=dict)
    is_primary: bool = False
    extra_attributes: Sequence[str] = ()
    max_wait: float = MAX_WAIT


_DISK = ("device",)
_MEMORY = ("recipient", "flags")
CORRELATION_RULES: Mapping[EventKind, CorrelationRule] = {
    ("libvirt", "io_error"): CorrelationRule(subject="disk", match_on=_DISK, is_primary=True),
    ("libvirt", "io_error_reason"): CorrelationRule(
        subject="disk", match_on=_DISK, extra_attributes=("reason",)
    ),
    ("qmp", "block_io_error"): CorrelationRule(
        subject="disk",
        match_on=_DISK,
        primary_details={"stop": "pause", "ignore": "none"},
    ),
    ("libvirt", "lifecycle.crashed"): CorrelationRule(subject="panic", is_primary=True),
    ("qmp", "guest_panicked"): CorrelationRule(
        subject="panic",
        primary_details=dict.fromkeys(("pause", "poweroff", "run"), "panicked"),
        extra_attributes=("info",),
        # libvirt reports a panic only once it holds the job lock of the domain.
        max_wait=2.0,
    ),
    ("libvirt", "memory_failure"): CorrelationRule(
        subject="memory", match_on=_MEMORY, is_primary=True
    ),
    ("qmp", "memory_failure"): CorrelationRule(subject="memory", match_on=_MEMORY),
}
_SECONDARY_KINDS = {
    subject: [
        kind
        for kind, rule in CORRELATION_RULES.items()
        if rule.subject == subject and not rule.is_primary
    ]
    for subject in {rule.subject for rule in CORRELATION_RULES.values()}
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Fingerprint:
    """Identity of the failure that an event reports.

    :param key: equal for all reports of one failure.
    :param kind: source and type of the event.
    :param is_primary: as in CorrelationRule.
    """

    key: FailureKey
    kind: EventKind
    is_primary: bool


def compute_fingerprint(raw: RawEvent) -> Fingerprint | None:
    """Return the fingerprint of an event; None if no other event can report the same failure."""
    kind = (raw.source, raw.type)
    rule = CORRELATION_RULES.get(kind)
    if rule is None or any(raw.attributes.get(name) for name in rule.extra_attributes):
        return None
    values = [raw.attributes.get(name) for name in rule.match_on]
    if any(value in (None, "") for value in values):
        return None
    detail = rule.primary_details.get(raw.detail, raw.detail)
    texts = [value if isinstance(value, str) else json.dumps(value) for value in values]
    return Fingerprint(
        key=(rule.subject, raw.instance.uuid, detail, *texts),
        kind=kind,
        is_primary=rule.is_primary,
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HeldReport:
    """A secondary report that waits for the primary one.

    :param until: monotonic time, in seconds.
    """

    raw: RawEvent
    until: float


class Correlator:
    """Merges the reports of one failure. Not thread-safe."""

    def __init__(self, dropped: "collections.Counter[str]"):
        """Start without any report.

        :param dropped: counts the dropped reports.
        """
        self._dropped = dropped
        #: Times of the primary reports that the kind of the slot has not repeated yet.
        self._unmatched: collections.OrderedDict[Slot, collections.deque[int]] = (
            collections.OrderedDict()
        )
        self._held: dict[Slot, collections.deque[HeldReport]] = {}
        self._held_count = 0

    def add(self, raw: RawEvent, now: float, wait: bool) -> list[RawEvent]:
        """Add an event and return the events to deliver now.

        :param now: monotonic time, in seconds.
        :param wait: whether the source of primary reports works, so that waiting makes sense.
        """
        fingerprint = compute_fingerprint(raw)
        if fingerprint is None:
            return [raw]
        if fingerprint.is_primary:
            return [self._merge_into_primary(fingerprint, raw)]
        if self._is_duplicate(fingerprint, raw):
            self._dropped[DUPLICATE_REPORT] += 1
            return []
        if not wait:
            return [raw]
        slot = (fingerprint.key, fingerprint.kind)
        until = now + CORRELATION_RULES[fingerprint.kind].max_wait
        self._held.setdefault(slot, collections.deque()).append(HeldReport(raw=raw, until=until))
        self._held_count += 1
        if self._held_count <= MAX_HELD:
            return []
        return [self._release(min(self._held, key=self._deadline))]

    def expired(self, now: float) -> list[RawEvent]:
        """Return the held reports whose wait has expired.

        :param now: monotonic time, in seconds; infinite for all of them.
        """
        reports = []
        while self._held:
            slot = min(self._held, key=self._deadline)
            if self._deadline(slot) > now:
                break
            reports.append(self._release(slot))
        return reports

    def next_timeout(self, now: float) -> float | None:
        """Return the seconds until the next held report expires; None if no report is held.

        :param now: monotonic time, in seconds.
        """
        return max(0.0, min(map(self._deadline, self._held)) - now) if self._held else None

    # -- primary reports -----------------------------------------------------------------------
    def _merge_into_primary(self, fingerprint: Fingerprint, raw: RawEvent) -> RawEvent:
        """Return the primary event with the attributes of the held reports that it matches."""
        attributes = dict(raw.attributes)
        for kind in _SECONDARY_KINDS[fingerprint.key[0]]:
            slot = (fingerprint.key, kind)
            held = self._held.get(slot)
            if held and _is_near(held[0].raw.occurred_at, raw):
                attributes = {**self._release(slot).attributes, **attributes}
                self._dropped[DUPLICATE_REPORT] += 1
            else:
                self._remember(slot, raw.occurred_at)
        return dataclasses.replace(raw, attributes=attributes)

    def _remember(self, slot: Slot, occurred_at: int) -> None:
        if slot not in self._unmatched:
            self._unmatched[slot] = collections.deque(maxlen=MAX_UNMATCHED)
        self._unmatched[slot].append(occurred_at)
        self._unmatched.move_to_end(slot)
        if len(self._unmatched) > MAX_SLOTS:
            self._unmatched.popitem(last=False)

    # -- secondary reports ---------------------------------------------------------------------
    def _is_duplicate(self, fingerprint: Fingerprint, raw: RawEvent) -> bool:
        """Return whether an unmatched primary report covers this one, and consume it."""
        moments = self._unmatched.get((fingerprint.key, fingerprint.kind))
        while moments:
            if _is_near(moments.popleft(), raw):
                return True
        return False

    def _deadline(self, slot: Slot) -> float:
        return self._held[slot][0].until

    def _release(self, slot: Slot) -> RawEvent:
        held = self._held[slot]
        raw = held.popleft().raw
        self._held_count -= 1
        if not held:
            del self._held[slot]
        return raw


def _is_near(occurred_at: int, raw: RawEvent) -> bool:
    return abs(occurred_at - raw.occurred_at) <= CORRELATION_WINDOW
