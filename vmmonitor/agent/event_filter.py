# SPDX-License-Identifier: Apache-2.0
"""The filter stage of the pipeline: raw events become deliveries, or are dropped by a rule."""

import collections
import dataclasses
import logging
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from oslo_log import log

from vmmonitor.agent.signals import AgentClock
from vmmonitor.model import event as events
from vmmonitor.model import evidence
from vmmonitor.model.event import Decision, Event, RawEvent
from vmmonitor.rpc import event_wire
from vmmonitor.rules.filters import FILTER_FAILED, Filters

LOG = log.getLogger(__name__)

#: Events of the agent itself end incidents, so that no rule of the filter file may drop them.
_OWN_DECISION = Decision(action=events.RECORD, severity=events.INFO, rule="agent")


class EventEnrichment(Protocol):
    """Adds attributes to events (``agent.enrichment``)."""

    def attributes_of(self, raw: RawEvent, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Return the attributes to add to an event that has these attributes."""


class EvidenceReferences(Protocol):
    """Names the place where evidence will be kept (``EvidenceCollector``)."""

    def reference(self, event_id: str, kinds: Sequence[str]) -> dict[str, Any]:
        """Return the attribute of an event that refers to its evidence."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FilteredEvent:
    """An event that a rule kept, with its form in the spool."""

    event: Event
    decision: Decision
    delivery: dict[str, Any]


class EventFilter:
    """Decides on each event by the rules of the filter file."""

    def __init__(
        self,
        *,
        host: str,
        filters: Filters,
        enrichments: Sequence[EventEnrichment],
        evidence_references: EvidenceReferences,
        dropped: "collections.Counter[str]",
        now: AgentClock,
    ):
        """Store the collaborators.

        :param enrichments: add attributes, in order, before the rules are evaluated.
        :param dropped: counts the ignored events by the name of the rule.
        """
        #: The rules in force; a reload replaces them.
        self.filters = filters
        #: Time of the last event; microseconds since the epoch.
        self.last_event_at = 0
        self._host = host
        self._enrichments = enrichments
        self._evidence_references = evidence_references
        self._dropped = dropped
        self._now = now

    def apply(self, raw: RawEvent) -> list[FilteredEvent]:
        """Return the event with its decision; empty if a rule ignores it."""
        attributes = raw.attributes
        for enrichment in self._enrichments:
            attributes = {**attributes, **enrichment.attributes_of(raw, attributes)}
        event = events.made_of(raw, self._host, attributes, str(uuid.uuid4()))
        decision = self._decide(event)
        self.last_event_at = raw.occurred_at
        if decision.action == events.IGNORE:
            self._dropped[decision.rule] += 1
            LOG.debug(
                "Dropped event %s of instance %s: rule %s",
                event.cause,
                raw.instance.uuid,
                decision.rule,
            )
            return []
        # Recorded events may come by the thousand.
        LOG.log(
            logging.INFO if decision.action == events.INCIDENT else logging.DEBUG,
            "Event %s: %s of instance %s (%s), action %s by rule %s",
            event.event_id,
            event.cause,
            raw.instance.uuid,
            raw.instance.name,
            decision.action,
            decision.rule,
        )
        if decision.evidence:
            reference = self._evidence_references.reference(event.event_id, decision.evidence)
            event = _add_evidence_reference(event, reference)
        delivery = event_wire.write_delivery(event, decision, self._now())
        return [FilteredEvent(event=event, decision=decision, delivery=delivery)]

    def _decide(self, event: Event) -> Decision:
        if event.source == events.AGENT_SOURCE:
            return _OWN_DECISION
        try:
            return self.filters.decide(event)
        except Exception:
            LOG.exception(
                "Filter error on event %s (%s); recorded by default", event.event_id, event.cause
            )
            return FILTER_FAILED


def _add_evidence_reference(event: Event, reference: dict[str, Any]) -> Event:
    """Return the event with a reference to its evidence, which is captured later."""
    others = {k: v for k, v in event.attributes.items() if k != evidence.ATTRIBUTE}
    # First, because the last attributes are cut if there are too many.
    return dataclasses.replace(event, attributes={evidence.ATTRIBUTE: reference} | others)
