# SPDX-License-Identifier: Apache-2.0
"""Examines the claims of hosts on instances of other hosts.

A claim ends in one of these ways: the expectation names the host, or the owner lost the instance,
and the host becomes the owner; the host does not repeat it; or it is reported to the operator by
an event ``host.conflict`` and in the reason of the agent. Each engine examines claims; a guarded
update decides which one examines a claim.
"""

import uuid
from collections.abc import Mapping

from oslo_config import cfg
from oslo_log import log

from vmmonitor.db import agents, owners
from vmmonitor.db.session import Database, Transaction
from vmmonitor.engine.ingest.local_events import LocalEvents
from vmmonitor.expectation import Expectation
from vmmonitor.model.agent import MAX_TURN_WINDOW, UNWATCHED, WATCHING, Agent
from vmmonitor.model.clock import SECOND
from vmmonitor.model.errors import Retriable
from vmmonitor.model.event import ENGINE_SOURCE, HOST_CONFLICT, OWNER_CHANGED, RawEvent
from vmmonitor.model.ownership import HostClaim, Owner, may_follow
from vmmonitor.model.states import AgentState
from vmmonitor.periodic import PeriodicThread

LOG = log.getLogger(__name__)

#: Interval of the rounds, in seconds.
_INTERVAL = 1.0
#: Minimum time between examinations of a claim, in microseconds.
_CHECK_INTERVAL = 5 * SECOND
#: Maximum number of claims that a round examines.
_MAX_CLAIMS = 20
#: Age of a claim that is reported to the operator, in microseconds. A migration takes less.
REPORT_AFTER = 10 * SECOND
#: Time until an instance that only another host runs belongs to that host, in microseconds.
TAKEOVER_AFTER = 60 * SECOND
#: Time without a report of the host until its claim is over, in microseconds.
CLAIM_TTL = 600 * SECOND
#: Conflict of an agent whose host name two machines use.
TWO_MACHINES = "two machines report under this name"
#: Namespace of the ids of events. Must never change.
_NAMESPACE = uuid.UUID("6a1f7f0c-94d7-4a55-8b8c-5a9b8f1c7a21")


class HostClaims:
    """Examines claims in a thread of its own."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        expectation: Expectation,
        local_events: LocalEvents,
    ):
        """Create the thread; ``start`` starts it.

        :param local_events: stores the events about owners and conflicts.
        """
        self._conf = conf
        self._database = database
        self._expectation = expectation
        self._local_events = local_events
        self._thread = PeriodicThread(
            "host-claims", self.check, lambda: _INTERVAL, failure="Claims were not examined"
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Stop after the claim in progress.

        :param timeout: maximum time to wait for it, in seconds.
        """
        self._thread.stop(timeout)

    def check(self) -> None:
        """Examine the claims that are due, and update the conflicts of the agents.

        :raises vmmonitor.model.errors.Retriable: the database is not available.
        """
        now = self._database.now()
        with self._database.reader() as tx:
            due = owners.claims_to_check(tx, now - _CHECK_INTERVAL, _MAX_CLAIMS)
        for claim in due:
            if self._thread.stopping.is_set():
                return
            if self._database.run(owners.update_claim, claim, checked_at=now):
                self._examine(claim, now)
        self._update_conflicts(now)

    def _examine(self, claim: HostClaim, now: int) -> None:
        with self._database.reader() as tx:
            owner = owners.owner_of(tx, claim.instance.uuid)
        if owner is None or owner.host == claim.host:
            self._database.run(owners.delete_claims, [claim])
            return
        try:
            located = self._locate(claim)
        except Retriable as error:
            LOG.warning("No answer about the host of %s: %s", claim.instance.uuid, error)
            return
        with self._database.reader() as tx:
            why = _why_new_owner(tx, claim, owner, located, now, self._grace())
            is_disputed = _is_disputed(tx, claim, owner, now)
        if is_disputed:
            self._database.run(owners.set_contested, claim)
        if why:
            self._change_owner(claim, owner, why, now)
        elif now - claim.last_at > CLAIM_TTL and not self._is_running(claim):
            self._database.run(owners.delete_claims, [claim])
        elif claim.reported_at is None and now - claim.since > REPORT_AFTER:
            self._report(claim, owner, now)

    def _grace(self) -> int:
        return round(self._conf.housekeeping.unwatched_after * SECOND)

    def _is_running(self, claim: HostClaim) -> bool:
        with self._database.reader() as tx:
            return bool(owners.running_watched(tx, {(claim.instance.uuid, claim.host)}))

    def _locate(self, claim: HostClaim) -> str:
        """Return the host that the expectation names; empty if it names none."""
        if not self._expectation.NAMES_HOST:
            return ""
        return self._expectation.locate(claim.instance.uuid)

    def _change_owner(self, claim: HostClaim, owner: Owner, why: str, now: int) -> None:
        LOG.info(
            "Instance %s belongs to host %s now, not to %s: %s",
            claim.instance.uuid,
            claim.host,
            owner.host,
            why,
        )
        facts = {"owner_before": owner.host, "reason": why}
        self._store(OWNER_CHANGED, claim, facts, now)

    def _report(self, claim: HostClaim, owner: Owner, now: int) -> None:
        LOG.warning(
            "Host %s reports instance %s (%s) of host %s; its events about it have no effect",
            claim.host,
            claim.instance.uuid,
            claim.instance.name,
            owner.host,
        )
        facts = {"owner": owner.host, "running": claim.running}
        self._store(HOST_CONFLICT, claim, facts, now)
        self._database.run(owners.set_reported, claim, now)

    def _store(self, kind: str, claim: HostClaim, facts: Mapping[str, object], now: int) -> None:
        name = f"{kind} {claim.instance.uuid} {claim.host} {claim.since} {facts.get('reason')}"
        event = RawEvent(
            source=ENGINE_SOURCE,
            type=kind,
            detail="",
            occurred_at=now,
            instance=claim.instance,
            attributes=facts,
            host=claim.host,
            event_id=str(uuid.uuid5(_NAMESPACE, name)),
        )
        self._local_events.store_unfiltered([event])

    def _update_conflicts(self, now: int) -> None:
        """Store, for each agent, what contradicts it."""
        with self._database.reader() as tx:
            current = agents.conflicts(tx)
            found = _find_conflicts(tx, now)
        for host in sorted(found.keys() | current.keys()):
            if found.get(host, "") != current.get(host, ""):
                self._database.run(agents.set_conflict, host, found.get(host, ""))


def _find_conflicts(tx: Transaction, now: int) -> dict[str, str]:
    """Return host -> what contradicts its agent."""
    texts: dict[str, list[str]] = {}
    for agent in agents.contended(tx, now - MAX_TURN_WINDOW):
        if agent.identities.is_contended(agent.report, now):
            texts.setdefault(agent.report.host, []).append(TWO_MACHINES)
    for host, name in agents.expected_names(tx).items():
        text = f"the expectation has its instances on host {name}: check the option host"
        texts.setdefault(host, []).append(text)
    for host, count in owners.reported_claims(tx).items():
        texts.setdefault(host, []).append(f"reports {count} instances of other hosts")
    return {host: "; ".join(parts) for host, parts in texts.items()}


def _why_new_owner(
    tx: Transaction, claim: HostClaim, owner: Owner, located: str, now: int, grace: int
) -> str:
    """Return why the host of a claim becomes the owner; empty if it does not.

    :param located: the host that the expectation names; empty if it names none.
    :param grace: time without monitoring until an owner loses the instance, in microseconds.
    """
    if located:
        return "the expectation names this host" if located == claim.host else ""
    owned = (claim.instance.uuid, owner.host)
    if not claim.running or owned in owners.running_watched(tx, {owned}):
        return ""
    # Two engines that store the departure and the arrival at the same time see neither.
    if owner.released_at is not None and may_follow(claim, owner.released_at):
        return "its owner stopped or removed it"
    if claim.contested:
        return ""
    agent = agents.find(tx, owner.host)
    if _is_gone(agent, now, grace):
        return "its owner is not monitored"
    is_watched = agent is not None and agent.state in WATCHING
    if is_watched and now - claim.since > TAKEOVER_AFTER:
        return "only this host ran it since"
    return ""


def _is_disputed(tx: Transaction, claim: HostClaim, owner: Owner, now: int) -> bool:
    """Return whether the owner is monitored again, and still runs the instance.

    A claim that began while its agent was stopped is then not believed any longer.
    """
    if claim.contested or now - claim.since <= REPORT_AFTER:
        return False
    return bool(owners.running_watched(tx, {(claim.instance.uuid, owner.host)}))


def _is_gone(agent: Agent | None, now: int, grace: int) -> bool:
    """Return whether the agent of a host has not observed it for longer than the grace."""
    if agent is None:
        return True
    if agent.state == AgentState.STOPPED:
        return now - agent.seen_at > grace
    since = agent.unwatched_since or agent.seen_at
    return agent.state in UNWATCHED and now - since > grace
