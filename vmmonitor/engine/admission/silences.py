# SPDX-License-Identifier: Apache-2.0
"""The gate of silences: what an operator mutes is not recovered while that lasts.

Only what would be decided now is muted. What runs already goes on, and what was left for a person
(``open``) stays so: to look at it again after the silence could do again what was done already.
"""

import datetime
from collections.abc import Iterator, Mapping, Sequence

from oslo_log import log

from vmmonitor.db import silences
from vmmonitor.db.session import Transaction
from vmmonitor.engine.admission.check import Refusal
from vmmonitor.model.errors import InvalidRules
from vmmonitor.model.incident import HoldReason, Incident
from vmmonitor.model.silence import Silence
from vmmonitor.model.states import IncidentState
from vmmonitor.rules import silences as rules
from vmmonitor.rules.matchers import Match
from vmmonitor.rules.policies import Policy

LOG = log.getLogger(__name__)

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class Silences:
    """Asks the database each time, so that a silence holds as soon as it is stored."""

    def __init__(self) -> None:
        """Know of none yet."""
        #: Silence id -> its match, which never changes; None if it cannot be read.
        self._built: Mapping[str, Match | None] = {}

    def gate(
        self, tx: Transaction, incident: Incident, policy: Policy | None, now: int
    ) -> Refusal | None:
        """Refuse an incident that a silence mutes, until the last such silence ends."""
        for silence in self._matching(incident, silences.active(tx, now)):
            # Whoever ends a silence looks at what is silenced by then. What is about to be, it
            # must wait for; what is already, it finds.
            is_found = (incident.state, incident.held_by) == (
                IncidentState.SILENCED,
                HoldReason.SILENCE,
            )
            if is_found or silences.lock_active(tx, silence.silence_id, now):
                return Refusal("silence", HoldReason.SILENCE, words(silence), silence.ends_at)
        return None

    def _matching(self, incident: Incident, active: Sequence[Silence]) -> Iterator[Silence]:
        if not active:
            return
        built = self._built
        # Others may do the same at once: each makes a mapping of its own.
        self._built = built = {
            one.silence_id: built[one.silence_id] if one.silence_id in built else _match(one)
            for one in active
        }
        subject = rules.fields_of(incident)
        for one in active:
            match = built[one.silence_id]
            if match is not None and match.holds(subject):
                yield one


def words(silence: Silence) -> str:
    """Return why an incident is silenced, for a person."""
    end = _EPOCH + datetime.timedelta(microseconds=silence.ends_at)
    return f"silenced by {silence.author} until {end:%Y-%m-%d %H:%M:%S}Z: {silence.comment}"


def _match(silence: Silence) -> Match | None:
    """Return what a silence means; one that only a newer version understands mutes nothing."""
    try:
        return rules.build(silence.match)
    except InvalidRules as error:
        LOG.error("Silence %s is not understood, and mutes nothing: %s", silence.silence_id, error)
        return None
