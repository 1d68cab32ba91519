# SPDX-License-Identifier: Apache-2.0
"""Verdicts that follow from events of reconciliation, without a query of the expectation. Pure."""

from vmmonitor.engine.reconcile.drift import TWO_HOSTS, UNEXPECTED, WRONG_HOST
from vmmonitor.model.incident import Incident, Verdict, VerdictKind

#: Service and question of these verdicts in a timeline.
ASKED = "reconciliation"
QUESTION = "what it found"


def from_drift(incident: Incident) -> Verdict | None:
    """Return the verdict that follows from a drift; None if the expectation must be queried."""
    if incident.cause.partition("/")[0] in (UNEXPECTED, TWO_HOSTS, WRONG_HOST):
        # The drift was found by comparison with the expectation, which has no newer answer.
        reason = "reconciliation found the instance in a wrong place or state"
        return Verdict(kind=VerdictKind.FAILED, reason=reason, asked=ASKED, question=QUESTION)
    return None
