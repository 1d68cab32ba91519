# SPDX-License-Identifier: Apache-2.0
"""Objections to a recovery that follow from the words of other hosts and other machines.

An expectation that names the host of each instance decides between hosts. Without one, an instance
that another host runs must not be started: it would run twice on one disk. A claim that the owner
contested when it began, or that the inventory of its host does not confirm, is not believed.
"""

from vmmonitor.db import agents, owners
from vmmonitor.db.session import Database, Transaction
from vmmonitor.expectation import Expectation
from vmmonitor.model.clock import SECOND
from vmmonitor.model.incident import Incident, Verdict, VerdictKind
from vmmonitor.model.ownership import HostClaim

_ASKED = "the other hosts"
_QUESTION = "whether one of them runs the instance"
#: Maximum time until the inventory of a host confirms its event, in microseconds.
_CONFIRM_TIME = 15 * SECOND


class OtherHosts:
    """Examines, for each verdict that can lead to a recovery, what contradicts it."""

    def __init__(self, database: Database, expectation: Expectation):
        """Read nothing yet."""
        self._database = database
        self._names_host = getattr(expectation, "NAMES_HOST", False)

    def apply(self, incident: Incident, verdict: Verdict) -> Verdict:
        """Return a verdict, or the objection to it.

        :raises vmmonitor.model.errors.Retriable: the database is not available.
        """
        if verdict.kind in (VerdictKind.PLANNED, VerdictKind.GONE):
            return verdict
        with self._database.reader() as tx:
            objection = self._object(tx, incident, self._database.now())
        if objection is None:
            return verdict
        kind, reason = objection
        return Verdict(kind=kind, reason=reason, asked=_ASKED, question=_QUESTION)

    def _object(
        self, tx: Transaction, incident: Incident, now: int
    ) -> tuple[VerdictKind, str] | None:
        agent = agents.find(tx, incident.host)
        if agent and agent.identities.is_contended(agent.report, now):
            reason = f"two machines report as host {incident.host}: no recovery is safe"
            return VerdictKind.UNKNOWN, reason
        if self._names_host:
            return None
        return _object_by_claims(tx, incident, now)


def _object_by_claims(
    tx: Transaction, incident: Incident, now: int
) -> tuple[VerdictKind, str] | None:
    instance_uuid = incident.instance.uuid
    owner = owners.owner_of(tx, instance_uuid)
    claims = owners.claims_of(tx, instance_uuid)
    places = {(instance_uuid, claim.host) for claim in claims}
    if owner:
        places.add((instance_uuid, owner.host))
    running = {host for _, host in owners.running_watched(tx, places)}
    if owner and owner.host != incident.host:
        if owner.host in running:
            return VerdictKind.PLANNED, f"the instance moved to host {owner.host} and runs there"
        return VerdictKind.UNKNOWN, f"the instance belongs to host {owner.host}"
    for claim in claims:
        if claim.host != incident.host and _is_believed(claim, running, now):
            return VerdictKind.UNKNOWN, f"host {claim.host} reports that it runs the instance"
    return None


def _is_believed(claim: HostClaim, running: set[str], now: int) -> bool:
    if not claim.running or claim.contested:
        return False
    return claim.host in running or now - claim.last_at <= _CONFIRM_TIME
