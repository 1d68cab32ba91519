# SPDX-License-Identifier: Apache-2.0
"""The event filter: decide on the event's host whether to ignore it, to record it, or to open an
incident."""

from collections.abc import Mapping
from typing import Any

from vmmonitor.model import event as events
from vmmonitor.model import evidence
from vmmonitor.model.event import Decision, Event
from vmmonitor.rules import document, ruleset, schemas
from vmmonitor.rules.ruleset import RuleSet, Trial

#: Name of the rule that decides if no rule of the file matches.
DEFAULT = "default"

#: Decision if a rule raises an error: an ignored event could be a failure.
FILTER_FAILED = Decision(action=events.RECORD, severity=events.WARNING, rule="filter-failed")

_SEVERITY = {
    events.IGNORE: events.INFO,
    events.RECORD: events.INFO,
    events.INCIDENT: events.CRITICAL,
}


class Filters:
    """The rules of one filter file.

    :ivar path: path of the file.
    :ivar checksum: SHA-256 of the file's bytes, in hex.
    :ivar rows: rules in order.
    """

    def __init__(self, path: str, checksum: str, rules: RuleSet[Decision], default: Decision):
        """Create the rules that ``load`` read.

        :param default: the decision if no rule matches.
        """
        self.path = path
        self.checksum = checksum
        self.rows = rules.rows
        self._rules = rules
        self._default = default

    def inherit(self, before: "Filters") -> None:
        """Take over the counters of the rules with the same name and rate.

        :param before: the rules that these replace.
        """
        rates = {row.name: row.rate for row in before.rows}
        for row in self.rows:
            if row.rate and (rate := rates.get(row.name)):
                row.rate.inherit(rate)

    def forget(self) -> None:
        """Reset the counters of all rules, as after a start."""
        for row in self.rows:
            if row.rate:
                row.rate.forget()

    def decide(self, event: Event) -> Decision:
        """Return the decision of the first rule that matches the event.

        Rules with a rate count the event, so call this once per event.
        """
        return self._rules.first(event) or self._default

    def wants(self, kind: str) -> bool:
        """Return whether any rule requests a kind of evidence."""
        decisions = [self._default, *(row.value for row in self.rows)]
        return any(kind in decision.evidence for decision in decisions)

    def explain(self, event: Event) -> list[Trial]:
        """Return the result of each rule that was tried, in order; the last one decides."""
        trials = self._rules.explain(event)
        if not any(trial.matched for trial in trials):
            trials.append(Trial(rule=DEFAULT, matched=True))
        return trials


def load(path: str) -> Filters:
    """Read a filter file.

    :raises vmmonitor.model.errors.InvalidRules: the message gives file, line and reason of each
        error in the file.
    """
    read = document.read(path)
    schemas.check(read, schemas.FILTERS)
    rules = ruleset.build(read, "rules", _decision, reserved=(DEFAULT,))
    default = _decision({"name": DEFAULT, **read.value.get("default", {"action": events.RECORD})})
    return Filters(path, read.checksum, rules, default)


def _decision(row: Mapping[str, Any]) -> Decision:
    action = row["action"]
    severity = row.get("severity", _SEVERITY[action])
    requested = row.get("evidence", ())
    return Decision(
        action=action,
        severity=severity,
        rule=row["name"],
        evidence=tuple(kind for kind in evidence.KINDS if kind in requested),
    )
