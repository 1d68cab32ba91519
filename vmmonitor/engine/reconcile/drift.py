# SPDX-License-Identifier: Apache-2.0
"""Holds what an instance should be doing against what the agents say of it. Pure.

A host that is not trusted now (its agent is late, blind, stopped, or its inventory is on its
way) says nothing: nothing is missing there, and what it said before proves only that the instance
may be there still.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from vmmonitor.model import instance as states
from vmmonitor.model.desired import DesiredState, DesiredStatus
from vmmonitor.model.drift import Drift
from vmmonitor.model.event import RECONCILE_SOURCE, Event
from vmmonitor.model.incident import Incident, Verdict, VerdictKind
from vmmonitor.model.instance import Instance
from vmmonitor.model.observed import ObservedInstance

MISSING = "reconcile.missing"
NOT_RUNNING = "reconcile.not_running"
PAUSED = "reconcile.paused"
UNEXPECTED = "reconcile.unexpected"
TWO_HOSTS = "reconcile.two_hosts"
WRONG_HOST = "reconcile.wrong_host"

#: Who says so in a time line, and what it was asked.
FINDER = "reconciliation"
FOUND = "what it found"

#: The observed state is the desired one, or there is no desired state.
AGREES = "agrees"
#: Nobody can tell now.
UNKNOWN = "unknown"

#: Reasons of a pause that ends by itself.
PASSING = frozenset(
    {"migration", "migrated", "postcopy", "save", "dump", "snapshot", "starting_up"}
    | {"shutting_down"}
)


def compare(
    expected: DesiredState | None, sights: Sequence[ObservedInstance], trusted: Collection[str]
) -> Drift | str:
    """Return how one instance differs from what it should be doing; AGREES or UNKNOWN if not.

    :param expected: None if nothing is expected of it.
    :param sights: of this instance, on whatever host.
    :param trusted: the hosts whose inventories can be trusted now.
    """
    if expected and expected.state == DesiredStatus.BUSY:
        return UNKNOWN
    there = [one for one in sights if one.present and one.host in trusted]
    running = sorted(
        (one for one in there if one.seen.state == states.RUNNING), key=lambda one: one.host
    )
    if len(running) > 1:
        return _two_hosts(expected, running)
    if expected is None:
        return AGREES
    if expected.state == DesiredStatus.RUNNING:
        return _should_run(expected, sights, running, trusted)
    return _found(UNEXPECTED, expected, running[0]) if running else AGREES


def verdict(incident: Incident, told: Sequence[Event]) -> Verdict | None:
    """Return what follows from what reconciliation found; None: ask the expectation.

    :param told: the incident's events, oldest first.
    """
    if incident.cause.partition("/")[0] in (UNEXPECTED, TWO_HOSTS, WRONG_HOST):
        # The expectation would say again what it said when this was found.
        reason = "reconciliation found it where, or as, it must not be"
        return Verdict(kind=VerdictKind.FAILED, reason=reason, asked=FINDER, question=FOUND)
    words = [event.type for event in told if event.source == RECONCILE_SOURCE]
    if words[-1:] == [TWO_HOSTS]:
        # It opened for another reason, and its policy would act.
        reason = "it runs on two hosts at once: nothing may act"
        return Verdict(kind=VerdictKind.UNKNOWN, reason=reason, asked=FINDER, question=FOUND)
    return None


def _two_hosts(expected: DesiredState | None, running: Sequence[ObservedInstance]) -> Drift:
    homes = [one for one in running if expected and one.host == expected.host]
    first = (homes or running)[0]
    return Drift(
        instance=first.seen.instance,
        host=first.host,
        hosts=tuple(one.host for one in running),
        type=TWO_HOSTS,
        detail="",
        desired=expected.state if expected else "",
        facts=_facts(expected, running),
    )


def _should_run(
    expected: DesiredState,
    sights: Sequence[ObservedInstance],
    running: Sequence[ObservedInstance],
    trusted: Collection[str],
) -> Drift | str:
    if running:
        at_home = expected.host in ("", running[0].host)
        return AGREES if at_home else _found(WRONG_HOST, expected, running[0])
    elsewhere = [one for one in sights if one.present and one.host != expected.host]
    if expected.host not in trusted or any(_may_live(one) for one in elsewhere):
        return UNKNOWN
    home = next((one for one in sights if one.present and one.host == expected.host), None)
    if home is None:
        return _missing(expected, sights)
    return _not_running(expected, home)


def _may_live(sight: ObservedInstance) -> bool:
    """Tell whether it may run there, or be about to: on a host that is not trusted it was there
    the last time, on another one it is paused or illegible."""
    return sight.seen.state != states.SHUTOFF


def _missing(expected: DesiredState, sights: Sequence[ObservedInstance]) -> Drift:
    before = [one for one in sights if one.host == expected.host]
    return Drift(
        instance=_known(expected, before),
        host=expected.host,
        hosts=(expected.host,),
        type=MISSING,
        detail="",
        desired=expected.state,
        facts=_facts(expected, before),
    )


def _not_running(expected: DesiredState, home: ObservedInstance) -> Drift | str:
    seen = home.seen
    if seen.state == states.PMSUSPENDED:
        return AGREES
    if seen.state == states.PAUSED:
        return UNKNOWN if seen.reason in PASSING else _found(PAUSED, expected, home)
    if seen.state == states.CRASHED:
        return _found(NOT_RUNNING, expected, home)
    if seen.state != states.SHUTOFF or seen.reason == "migrated":
        # Illegible; or it went to a host that nobody watches, or that has not told yet.
        return UNKNOWN
    return _found(NOT_RUNNING if seen.persistent else MISSING, expected, home)


def _found(kind: str, expected: DesiredState, sight: ObservedInstance) -> Drift:
    return Drift(
        instance=_known(expected, [sight]),
        host=sight.host,
        hosts=(sight.host,),
        type=kind,
        detail=sight.seen.reason or sight.seen.state,
        desired=expected.state,
        facts=_facts(expected, [sight]),
    )


def _known(expected: DesiredState, sights: Sequence[ObservedInstance]) -> Instance:
    """Who it is: as its host says, which knows more, or as the expectation does."""
    return sights[0].seen.instance if sights else expected.instance


def _facts(expected: DesiredState | None, sights: Sequence[ObservedInstance]) -> Mapping[str, Any]:
    """What a person wants to read in the event."""
    facts: dict[str, Any] = {
        "seen": {one.host: f"{one.seen.state}/{one.seen.reason}" for one in sights if one.present}
    }
    if expected:
        facts |= {"expected": expected.state, "expected_host": expected.host}
        if expected.updated_at:
            facts["expected_since"] = expected.updated_at
    return facts
