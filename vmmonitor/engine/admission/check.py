# SPDX-License-Identifier: Apache-2.0
"""Define the interface of an admission check, and evaluate checks in order.

A check runs in the transaction that would claim the recovery, with the incident's row locked. It
costs one or two queries. If it counts something and admits an incident on that basis, it takes a
database lock (``db.locks``) so that no other engine counts at the same time.
"""

import dataclasses
from collections.abc import Iterable
from typing import Protocol

from vmmonitor.db.session import Transaction
from vmmonitor.model.incident import HoldReason, Incident
from vmmonitor.model.states import IncidentState, IncidentTransition
from vmmonitor.rules.policies import Policy

#: Transition of a denied incident -> the state that it leads to.
DENIED_STATES = {
    IncidentTransition.HOLD: IncidentState.HELD,
    IncidentTransition.SILENCE: IncidentState.SILENCED,
}
#: Hold reasons that need an operator: the incident does not continue by itself for a long time.
#: A storm is not among them, as it has an incident of its own.
NEEDS_OPERATOR = frozenset({HoldReason.UNKNOWN, HoldReason.BUDGET})


@dataclasses.dataclass(frozen=True, slots=True)
class Denied:
    """The reason why an incident is not recovered now.

    :param transition: HOLD or SILENCE.
    :param reason: one sentence for the operator; it stays the same until something changes.
    :param until: when to check again; microseconds since the epoch, engines' clock.
    :param part_of: id of the storm that the incident belongs to.
    """

    transition: IncidentTransition
    held_by: HoldReason
    reason: str
    until: int
    part_of: str = ""


class AdmissionCheck(Protocol):
    """One check between a confirmed failure and its recovery."""

    def check(
        self, tx: Transaction, incident: Incident, policy: Policy | None, now: int
    ) -> Denied | None:
        """Return why an incident is denied, or None to admit it.

        :param policy: the policy that acts on the incident; None without one, when only silences
            apply.
        :param now: microseconds since the epoch, engines' clock.
        """


def admit(
    checks: Iterable[AdmissionCheck],
    tx: Transaction,
    incident: Incident,
    policy: Policy | None,
    now: int,
) -> Denied | None:
    """Return the first denial of the checks; None if all of them admit the incident.

    An operator's request to recover an incident (``Incident.override``) bypasses all checks.
    """
    if incident.override:
        return None
    denials = (each.check(tx, incident, policy, now) for each in checks)
    return next((denied for denied in denials if denied), None)
