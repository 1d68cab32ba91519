# SPDX-License-Identifier: Apache-2.0
"""Decides which host speaks for an instance, for the events of one transaction.

The owner of an instance is the host that the expectation names (``OWNER_CHANGED``), otherwise the
host that reported the instance first and has not announced its departure. An event of another host
is stored as ``record`` and has no effect on an incident. If it shows that the instance runs there,
or reports a failure, it is a claim; ``engine.upkeep.host_claims`` examines claims.

Two queries read everything that is needed, for any number of events.
"""

import dataclasses
import uuid
from collections.abc import Iterable, Mapping

from vmmonitor.db import events as stored_events
from vmmonitor.db import owners
from vmmonitor.db.incidents import Place
from vmmonitor.db.session import Transaction
from vmmonitor.model import event as events
from vmmonitor.model.clock import SECOND
from vmmonitor.model.event import Decision, Event, StoredEvent
from vmmonitor.model.ownership import (
    MOVE_TOLERANCE,
    VANISHED_CAUSE,
    HostClaim,
    Owner,
    is_after_move,
    is_departure,
    may_follow,
    shows_running,
)
from vmmonitor.rpc.event_wire import Delivery

#: Attributes of an event whose host is not the owner: the owner, and the action of its rule.
OWNER_ATTRIBUTE = "owner"
ACTION_ATTRIBUTE = "filter_action"
#: Attribute of the copy of such an event after its host became the owner: id of the first event.
REPEATS_ATTRIBUTE = "repeats"
#: Minimum time between updates of a claim that has not changed, in microseconds.
_TOUCH_INTERVAL = 5 * SECOND
#: Namespace of the ids of copies. Must never change.
_NAMESPACE = uuid.UUID("0b1f5f39-6c19-4c9d-8a3e-6a0ce3b1a6d4")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """The relation of an event's host to its instance.

    :param owner: the owner's host; empty without an owner.
    :param is_foreign: the host is not the owner.
    :param is_claim: a foreign event that reports the instance running, or a failure.
    :param moved_from: the owner before, if the event shows that the instance moved and runs.
    :param claim: the earlier reports of the new owner, which count from now on.
    """

    owner: str
    is_foreign: bool = False
    is_claim: bool = False
    moved_from: str = ""
    claim: HostClaim | None = None


class Ownership:
    """The owners of the instances of one transaction."""

    def __init__(self, tx: Transaction, given: Iterable[Event], now: int):
        """Read the owners and claims of the events' instances.

        :param now: microseconds since the epoch, engines' clock.
        """
        self._tx = tx
        self._now = now
        self._events = list(given)
        uuids = {event.instance.uuid for event in self._events}
        self._before, claims = owners.load(tx, uuids)
        self._owners = dict(self._before)
        self._stored_claims: Mapping[Place, HostClaim] = claims
        self._claims = dict(claims)

    def places(self) -> set[Place]:
        """Return the places whose open incidents the events can change."""
        found = {(event.instance.uuid, event.host) for event in self._events}
        found |= {(owner.instance_uuid, owner.host) for owner in self._owners.values()}
        return found | set(self._claims)

    def judge(self, event: Event, action: str) -> Standing:
        """Return the standing of an event, and change the owner if the event does so.

        :param event: with its time on the engines' clock.
        :param action: the action of its filter rule.
        """
        instance_uuid = event.instance.uuid
        owner = self._owners.get(instance_uuid)
        if event.source in events.ENGINE_SOURCES:
            return self._judge_engine(event, owner)
        if owner is None:
            released_at = event.occurred_at if is_departure(event) else None
            self._put(instance_uuid, event.host, released_at)
            return Standing(owner=event.host)
        if owner.host == event.host:
            return self._judge_owner(event, owner)
        is_failure = action == events.INCIDENT and not is_after_move(event)
        if self._takes_over(event, owner, is_failure):
            return self._transfer(instance_uuid, owner.host, event.host)
        # An event from before the move to the owner waited in the spool of its host.
        is_current = event.occurred_at >= owner.since - MOVE_TOLERANCE
        is_claim = is_current and (shows_running(event) or is_failure)
        if is_claim:
            self._record_claim(event)
        elif is_departure(event):
            self._end_claim(event)
        return Standing(owner=owner.host, is_foreign=True, is_claim=is_claim)

    def _takes_over(self, event: Event, owner: Owner, is_failure: bool) -> bool:
        """Return whether an instance that left its owner runs or failed on the event's host."""
        if owner.released_at is None or not (shows_running(event) or is_failure):
            return False
        known = self._claims.get((owner.instance_uuid, event.host))
        is_disputed = known is not None and known.contested
        return not is_disputed and event.occurred_at >= owner.released_at - MOVE_TOLERANCE

    def _judge_engine(self, event: Event, owner: Owner | None) -> Standing:
        """Judge an event of an engine's own source, which speaks for no host."""
        if event.type == events.OWNER_CHANGED:
            before = owner.host if owner else ""
            if before == event.host:
                return Standing(owner=event.host)
            standing = self._transfer(event.instance.uuid, before, event.host)
            # Without a running instance there, the incident stays with the host that reported it:
            # the failure that a former owner reported must not be repaired on the new one.
            runs = standing.claim is not None and standing.claim.running
            return standing if runs else dataclasses.replace(standing, moved_from="")
        return Standing(owner=owner.host if owner else "")

    def _judge_owner(self, event: Event, owner: Owner) -> Standing:
        if shows_running(event):
            if owner.released_at is not None:
                self._owners[owner.instance_uuid] = dataclasses.replace(owner, released_at=None)
            return Standing(owner=owner.host)
        has_left = is_departure(event)
        if has_left or event.cause == VANISHED_CAUSE:
            left_at = event.occurred_at if has_left else 0
            if follower := self._follower(owner, event, left_at):
                moved = self._transfer(owner.instance_uuid, owner.host, follower.host)
                return dataclasses.replace(moved, is_foreign=True)
        if has_left:
            at = event.occurred_at
            self._owners[owner.instance_uuid] = dataclasses.replace(owner, released_at=at)
        return Standing(owner=owner.host)

    def _follower(self, owner: Owner, event: Event, left_at: int) -> HostClaim | None:
        """Return the claim of the host that runs an instance after it left its owner."""
        for (instance_uuid, _), claim in sorted(self._claims.items()):
            if instance_uuid != owner.instance_uuid or not claim.running:
                continue
            if not claim.contested or (left_at and may_follow(claim, left_at)):
                return claim
        return None

    def _transfer(self, instance_uuid: str, before: str, host: str) -> Standing:
        """Make a host the owner."""
        claim = self._claims.pop((instance_uuid, host), None)
        self._put(instance_uuid, host, None)
        return Standing(owner=host, moved_from=before, claim=claim)

    def _put(self, instance_uuid: str, host: str, released_at: int | None) -> None:
        self._owners[instance_uuid] = Owner(
            instance_uuid=instance_uuid, host=host, since=self._now, released_at=released_at
        )

    def _record_claim(self, event: Event) -> None:
        place = (event.instance.uuid, event.host)
        runs, now = shows_running(event), self._now
        known = self._claims.get(place)
        if known is None:
            self._claims[place] = HostClaim(
                instance=event.instance,
                host=event.host,
                since=now,
                last_at=now,
                running=runs,
                contested=False,
            )
            return
        self._claims[place] = renewed(known, runs, now)

    def _end_claim(self, event: Event) -> None:
        """End the claim of a host that reports that the instance left it.

        A contested claim stays, so that a host cannot renew it.
        """
        place = (event.instance.uuid, event.host)
        known = self._claims.get(place)
        if known is not None and not known.contested:
            del self._claims[place]

    # -- writing -------------------------------------------------------------------------------
    def write(self) -> None:
        """Write the changed owners and claims.

        :raises vmmonitor.model.errors.Conflict: another engine changed one of them meanwhile.
        """
        new = [owner for uuid, owner in self._owners.items() if uuid not in self._before]
        owners.insert(self._tx, new)
        for instance_uuid, before in sorted(self._before.items()):
            after = self._owners[instance_uuid]
            if after != before:
                owners.replace(self._tx, before, after)
        self._write_claims()

    def _write_claims(self) -> None:
        changed = {
            place: claim
            for place, claim in self._claims.items()
            if claim != self._stored_claims.get(place)
        }
        hosts = {uuid: owner.host for uuid, owner in self._owners.items()}
        changed = mark_contested(self._tx, changed, self._stored_claims, hosts)
        stored = self._stored_claims
        owners.insert_claims(
            self._tx, [claim for place, claim in changed.items() if place not in stored]
        )
        for place, claim in sorted(changed.items()):
            if place in stored:
                owners.touch_claim(self._tx, claim)
        removed = [claim for place, claim in stored.items() if place not in self._claims]
        owners.delete_claims(self._tx, removed)

    def repeated(self, claim: HostClaim) -> list[tuple[Delivery, StoredEvent]]:
        """Return the reports of a claim as events of the owner, in order, each with the original.

        The id of a copy follows from that of the original.
        """
        stored = stored_events.of_instance_on_host(
            self._tx, claim.instance.uuid, claim.host, claim.since
        )
        return [
            (_copy(each), each) for each in stored if ACTION_ATTRIBUTE in each.event.attributes
        ]


def mark_contested(
    tx: Transaction,
    changed: Mapping[Place, HostClaim],
    stored: Mapping[Place, HostClaim],
    owner_hosts: Mapping[str, str],
) -> dict[Place, HostClaim]:
    """Return claims; those that begin while the owner runs the instance are contested.

    :param stored: the claims before the change.
    :param owner_hosts: instance uuid -> host of the owner.
    """
    begun = {
        place: (place[0], owner_hosts[place[0]])
        for place, claim in changed.items()
        if claim.running and not (place in stored and stored[place].running)
    }
    if not begun:
        return dict(changed)
    running = owners.running_watched(tx, set(begun.values()))
    return {
        place: dataclasses.replace(claim, contested=True) if begun.get(place) in running else claim
        for place, claim in changed.items()
    }


def renewed(claim: HostClaim, runs: bool, now: int) -> HostClaim:
    """Return a claim after a further report of its host.

    A contested claim keeps its beginning: a host that repeats it does not make it newer.
    """
    if runs and not claim.running and not claim.contested:
        return dataclasses.replace(claim, running=True, since=now, last_at=now)
    if runs == claim.running and now - claim.last_at < _TOUCH_INTERVAL:
        return claim
    return dataclasses.replace(claim, running=runs or claim.running, last_at=now)


def demote(delivery: Delivery, owner: str) -> Delivery:
    """Return an event of a host that is not the owner, as it is stored."""
    event, decision = delivery.event, delivery.decision
    facts = {OWNER_ATTRIBUTE: owner, ACTION_ATTRIBUTE: decision.action}
    return dataclasses.replace(
        delivery,
        event=dataclasses.replace(event, attributes={**event.attributes, **facts}),
        decision=dataclasses.replace(decision, action=events.RECORD),
    )


def _copy(stored: StoredEvent) -> Delivery:
    """Return a demoted event as an event of the owner, with its time on the engines' clock."""
    event = stored.event
    attributes = dict(event.attributes)
    action = attributes.pop(ACTION_ATTRIBUTE)
    attributes.pop(OWNER_ATTRIBUTE, None)
    attributes[REPEATS_ATTRIBUTE] = event.event_id
    copy = dataclasses.replace(
        event,
        event_id=str(uuid.uuid5(_NAMESPACE, event.event_id)),
        occurred_at=stored.corrected_at,
        attributes=attributes,
    )
    decision = Decision(
        action=action if action in events.ACTIONS else events.RECORD,
        severity=stored.decision.severity,
        rule=stored.decision.rule,
    )
    return Delivery(event=copy, decision=decision, spooled_at=stored.spooled_at)
