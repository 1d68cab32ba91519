# SPDX-License-Identifier: Apache-2.0
"""Silences: matching incidents are stored, in state ``silenced``, but are not recovered.

A silence applies to incidents that would be decided now, and to the next attempt of a recovery. A
call of a driver in progress continues, and an ``unhandled`` incident stays unhandled: examining it
again after the silence could repeat an action.
"""

import datetime
from collections.abc import Iterator, Mapping, Sequence

from oslo_log import log

from vmmonitor.db import silences
from vmmonitor.db.session import Transaction
from vmmonitor.engine.admission.check import Denied
from vmmonitor.model.errors import InvalidRules
from vmmonitor.model.incident import HoldReason, Incident
from vmmonitor.model.silence import Silence
from vmmonitor.model.states import IncidentState, IncidentTransition
from vmmonitor.rules import silences as rules
from vmmonitor.rules.matchers import Match
from vmmonitor.rules.policies import Policy

LOG = log.getLogger(__name__)

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class SilenceCheck:
    """Denies incidents that an active silence matches.

    Active silences are read at each check, so a silence applies as soon as it is stored.
    """

    def __init__(self) -> None:
        """Start without compiled matches."""
        #: Silence id -> its match, which never changes; None if it is not valid.
        self._matches: Mapping[str, Match | None] = {}

    def check(
        self, tx: Transaction, incident: Incident, policy: Policy | None, now: int
    ) -> Denied | None:
        """Deny an incident until the end of the last silence that matches it."""
        for silence in self._matching(incident, silences.active(tx, now)):
            # Ending a silence releases the incidents that it silenced by then. Ending must wait
            # for an incident that is being silenced now, and finds one that already is.
            is_silenced = (incident.state, incident.held_by) == (
                IncidentState.SILENCED,
                HoldReason.SILENCE,
            )
            if is_silenced or silences.lock_active(tx, silence.silence_id, now):
                return Denied(
                    IncidentTransition.SILENCE,
                    HoldReason.SILENCE,
                    describe(silence),
                    silence.ends_at,
                )
        return None

    def _matching(self, incident: Incident, active: Sequence[Silence]) -> Iterator[Silence]:
        if not active:
            return
        known = self._matches
        # Other threads may replace the mapping at the same time; each replaces it as a whole.
        self._matches = known = {
            each.silence_id: known[each.silence_id]
            if each.silence_id in known
            else _compile_match(each)
            for each in active
        }
        fields = rules.fields_of(incident)
        for each in active:
            match = known[each.silence_id]
            if match is not None and match.holds(fields):
                yield each


def describe(silence: Silence) -> str:
    """Return why an incident is silenced, as one sentence for the operator."""
    end = _EPOCH + datetime.timedelta(microseconds=silence.ends_at)
    return f"silenced by {silence.author} until {end:%Y-%m-%d %H:%M:%S}Z: {silence.comment}"


def _compile_match(silence: Silence) -> Match | None:
    """Return the match of a silence; None, which silences nothing, if it is not valid here.

    A newer version of vmmonitor may have stored it.
    """
    try:
        return rules.build(silence.match)
    except InvalidRules as error:
        LOG.error("Silence %s is not valid and does not apply: %s", silence.silence_id, error)
        return None
