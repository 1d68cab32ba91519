# SPDX-License-Identifier: Apache-2.0
"""Each fact is told once when it begins and once when it ends. Pure."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from vmmonitor.sources.libvirt.liveness import stalled

HUNG = "hung"
STALLED = "stalled"
PAUSED = "paused"
DISK_ERROR = "disk_error"
GUEST_AGENT = "guest_agent"
#: Detail of GUEST_AGENT.
SILENT = "silent"

#: (kind, detail) of a fact -> the details that are worth telling while it lasts.
GROWS: Mapping[tuple[str, str], frozenset[str]] = {
    (STALLED, stalled.SUSPECT): frozenset({stalled.FAILED})
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """Something that lasts.

    :param device: of a disk error, else empty.
    :param began_at: microseconds since the epoch.
    """

    kind: str
    detail: str
    began_at: int
    device: str = ""

    @property
    def serious(self) -> bool:
        """Whether the instance cannot run while it lasts, and runs once it is over."""
        return self.kind == HUNG or (self.kind, self.detail) == (STALLED, stalled.FAILED)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What is to be told: type and detail of an event, and its attributes."""

    type: str
    detail: str
    attributes: Mapping[str, Any]


class Facts:
    """The facts about one run of one instance."""

    def __init__(self, facts: tuple[Fact, ...] = ()):
        """Start from those that were told before.

        :param facts: as ``all`` returned them.
        """
        self._facts = {(fact.kind, fact.device): fact for fact in facts}

    def all(self) -> tuple[Fact, ...]:
        """Return what lasts."""
        return tuple(self._facts.values())

    def detail(self, kind: str, device: str = "") -> str:
        """Return the detail of a fact that lasts, empty if there is none."""
        fact = self._facts.get((kind, device))
        return fact.detail if fact else ""

    def devices(self, kind: str) -> set[str]:
        """Return the devices of which a fact of this kind lasts."""
        return {device for known, device in self._facts if known == kind}

    def begin(
        self, kind: str, detail: str, now: int, attributes: Mapping[str, Any], device: str = ""
    ) -> list[Finding]:
        """Return what is to be told of a fact that holds now; nothing if it was told.

        :param now: microseconds since the epoch.
        :param attributes: what was measured; JSON values.
        """
        known = self._facts.get((kind, device))
        if known and detail not in GROWS.get((kind, known.detail), ()):
            return []
        fact = Fact(
            kind=kind, detail=detail, began_at=known.began_at if known else now, device=device
        )
        self._facts[kind, device] = fact
        return [
            Finding(type=f"liveness.{kind}", detail=detail, attributes=_with(fact, attributes))
        ]

    def forget_serious(self) -> None:
        """Forget what should be over, since somebody saw to it; if it is not, it is told anew."""
        self._facts = {key: fact for key, fact in self._facts.items() if not fact.serious}

    def end(self, kind: str, now: int, device: str = "") -> list[Finding]:
        """Return what is to be told now that a fact does not hold; nothing if it never did.

        :param now: microseconds since the epoch.
        """
        fact = self._facts.pop((kind, device), None)
        if fact is None:
            return []
        runs = fact.serious and not any(other.serious for other in self._facts.values())
        lasted = max(0, now - fact.began_at) / 1e6
        attributes = {"was": fact.detail, "lasted_s": round(lasted, 3)}
        return [
            Finding(
                type="liveness.recovered" if runs else "liveness.cleared",
                detail=kind,
                attributes=_with(fact, attributes),
            )
        ]


def _with(fact: Fact, attributes: Mapping[str, Any]) -> dict[str, Any]:
    return dict(attributes) | ({"device": fact.device} if fact.device else {})
