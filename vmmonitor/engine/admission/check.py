# SPDX-License-Identifier: Apache-2.0
"""What stands between a failure that is certain and its recovery: each gate lets an incident
pass, or tells why not, and until when.

A gate is asked in the transaction that would claim the recovery, with the incident's row locked.
It takes no longer than a query or two; what it must keep others from doing meanwhile it locks
(``db.gates``).
"""

import dataclasses
from collections.abc import Callable, Sequence

from vmmonitor.db.session import Transaction
from vmmonitor.model.incident import HoldReason, Incident
from vmmonitor.model.states import IncidentState
from vmmonitor.rules.policies import Policy

#: The state to which a refusal's move leads.
STATES = {"hold": IncidentState.HELD, "silence": IncidentState.SILENCED}
#: Of these a person is to know, as nothing goes on by itself for long. (A storm tells of itself.)
ALERTING = frozenset({HoldReason.UNKNOWN, HoldReason.BUDGET})


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """Why an incident is not to be recovered now.

    :param move: the move of ``states.INCIDENT`` that puts it off: ``hold`` or ``silence``.
    :param held_by: one of the words of ``model.incident``.
    :param reason: one sentence for a person; the same as long as nothing changes.
    :param until: when to ask again; microseconds since the epoch, engines' clock.
    :param part_of: id of the storm that it belongs to.
    """

    move: str
    held_by: str
    reason: str
    until: int
    part_of: str = ""


#: Asks one gate; None lets the incident pass. The policy is None where none acts on it: then a
#: silence may still mute it. The last argument is the engines' clock now.
Gate = Callable[[Transaction, Incident, Policy | None, int], Refusal | None]


def ask(
    gates: Sequence[Gate], tx: Transaction, incident: Incident, policy: Policy | None, now: int
) -> Refusal | None:
    """Return the first refusal, None if every gate lets the incident pass.

    An operator who wants it recovered all the same (``Incident.override``) opens them all.
    """
    if incident.override:
        return None
    return next((no for gate in gates if (no := gate(tx, incident, policy, now))), None)
