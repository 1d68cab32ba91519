# SPDX-License-Identifier: Apache-2.0
"""The filter: what becomes of an event on its host (ignore, record, incident), and why."""

from collections.abc import Mapping
from typing import Any

from vmmonitor.model import event as events
from vmmonitor.model import evidence
from vmmonitor.model.event import Decision, Event
from vmmonitor.rules import document, ordered, schemas
from vmmonitor.rules.ordered import Rows, Trial

#: Name of the rule that decides when none matches.
DEFAULT = "default"

#: What becomes of an event on which the rules fail: losing it might lose a failure.
UNDECIDED = Decision(action=events.RECORD, severity=events.WARNING, rule="filter-failed")

_SEVERITY = {
    events.IGNORE: events.INFO,
    events.RECORD: events.INFO,
    events.INCIDENT: events.CRITICAL,
}


class Filters:
    """The rules of one filter file.

    :ivar path: the file.
    :ivar checksum: SHA-256 of the file's bytes, in hex.
    :ivar rows: its rules in order.
    """

    def __init__(self, path: str, checksum: str, rows: Rows[Decision], default: Decision):
        """Keep what ``load`` read.

        :param default: the decision when no rule matches.
        """
        self.path = path
        self.checksum = checksum
        self.rows = rows.rows
        self._ordered = rows
        self._default = default

    def inherit(self, before: "Filters") -> None:
        """Go on counting where the rules before did, for each rule with the same name and rate."""
        rates = {row.name: row.rate for row in before.rows}
        for row in self.rows:
            if row.rate and (rate := rates.get(row.name)):
                row.rate.inherit(rate)

    def forget(self) -> None:
        """Count anew, as after a start."""
        for row in self.rows:
            if row.rate:
                row.rate.forget()

    def decide(self, event: Event) -> Decision:
        """Return what is to become of the event; the first rule that matches decides.

        The event is counted by the rules with a rate that are tried: ask once for each event.
        """
        return self._ordered.first(event) or self._default

    def wants(self, kind: str) -> bool:
        """Tell whether any rule asks for a kind of evidence."""
        decisions = [self._default, *(row.value for row in self.rows)]
        return any(kind in decision.evidence for decision in decisions)

    def explain(self, event: Event) -> list[Trial]:
        """Return how every rule does that is tried, in order; the last one decides."""
        trials = self._ordered.explain(event)
        if not any(trial.matched for trial in trials):
            trials.append(Trial(rule=DEFAULT, matched=True))
        return trials


def load(path: str) -> Filters:
    """Read a filter file.

    :raises vmmonitor.model.errors.InvalidRules: the message names file, line and reason of
        everything that is wrong with it.
    """
    read = document.read(path)
    schemas.check(read, schemas.FILTERS)
    rows = ordered.build(read, "rules", _decision, reserved=(DEFAULT,))
    default = _decision({"name": DEFAULT, **read.value.get("default", {"action": events.RECORD})})
    return Filters(path, read.checksum, rows, default)


def _decision(row: Mapping[str, Any]) -> Decision:
    action = row["action"]
    severity = row.get("severity", _SEVERITY[action])
    asked = row.get("evidence", ())
    return Decision(
        action=action,
        severity=severity,
        rule=row["name"],
        evidence=tuple(kind for kind in evidence.KINDS if kind in asked),
    )
