# SPDX-License-Identifier: Apache-2.0
"""Facts about an instance that last, each reported once when it begins and when it ends. Pure."""

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

from vmmonitor.sources.libvirt.liveness.stalled import StallDetail


class FactKind(enum.StrEnum):
    """Kind of a fact."""

    HUNG = "hung"
    STALLED = "stalled"
    PAUSED = "paused"
    DISK_ERROR = "disk_error"
    GUEST_AGENT = "guest_agent"


#: Detail of ``FactKind.GUEST_AGENT``.
AGENT_SILENT = "silent"

#: (kind, detail) of a fact -> details that are reported when the fact changes to them.
ESCALATIONS: Mapping[tuple[str, str], frozenset[str]] = {
    (FactKind.STALLED, StallDetail.SUSPECT): frozenset({StallDetail.FAILED})
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """A condition that lasts.

    :param device: device of a disk error; empty for other kinds.
    :param began_at: microseconds since the epoch.
    """

    kind: str
    detail: str
    began_at: int
    device: str = ""

    @property
    def is_serious(self) -> bool:
        """True if the instance cannot work while the fact lasts."""
        return self.kind == FactKind.HUNG or (self.kind, self.detail) == (
            FactKind.STALLED,
            StallDetail.FAILED,
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """The beginning or the end of a fact, to be observed as an event."""

    type: str
    detail: str
    attributes: Mapping[str, Any]


class Facts:
    """The facts about one run of one instance."""

    def __init__(self, facts: tuple[Fact, ...] = ()):
        """Start with the facts that an earlier agent has reported.

        :param facts: as ``all`` returned them.
        """
        self._facts = {(fact.kind, fact.device): fact for fact in facts}

    def all(self) -> tuple[Fact, ...]:
        """Return the facts that last."""
        return tuple(self._facts.values())

    def detail(self, kind: str, device: str = "") -> str:
        """Return the detail of a fact that lasts; empty if there is none."""
        fact = self._facts.get((kind, device))
        return fact.detail if fact else ""

    def devices(self, kind: str) -> set[str]:
        """Return the devices that have a fact of this kind."""
        return {device for known, device in self._facts if known == kind}

    def begin(
        self, kind: str, detail: str, now: int, attributes: Mapping[str, Any], device: str = ""
    ) -> list[Finding]:
        """Return the finding of a fact that holds now; empty if it has been reported.

        :param now: microseconds since the epoch.
        :param attributes: measurements, as JSON values.
        """
        known = self._facts.get((kind, device))
        if known and detail not in ESCALATIONS.get((kind, known.detail), ()):
            return []
        fact = Fact(
            kind=kind, detail=detail, began_at=known.began_at if known else now, device=device
        )
        self._facts[kind, device] = fact
        return [
            Finding(
                type=f"liveness.{kind}",
                detail=detail,
                attributes=_add_device(fact, attributes),
            )
        ]

    def forget_serious(self) -> None:
        """Forget the facts that a recovery should have ended, so that they are reported again."""
        self._facts = {key: fact for key, fact in self._facts.items() if not fact.is_serious}

    def end(self, kind: str, now: int, device: str = "") -> list[Finding]:
        """Return the finding that a fact has ended; empty if it did not hold.

        :param now: microseconds since the epoch.
        """
        fact = self._facts.pop((kind, device), None)
        if fact is None:
            return []
        recovered = fact.is_serious and not any(other.is_serious for other in self._facts.values())
        lasted = max(0, now - fact.began_at) / 1e6
        attributes = {"was": fact.detail, "lasted_s": round(lasted, 3)}
        return [
            Finding(
                type="liveness.recovered" if recovered else "liveness.cleared",
                detail=kind,
                attributes=_add_device(fact, attributes),
            )
        ]


def _add_device(fact: Fact, attributes: Mapping[str, Any]) -> dict[str, Any]:
    return dict(attributes) | ({"device": fact.device} if fact.device else {})
