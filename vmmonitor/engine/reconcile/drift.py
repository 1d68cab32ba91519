# SPDX-License-Identifier: Apache-2.0
"""Compares the desired with the observed state of one instance. Pure.

The inventory of a host is not trusted while its agent is late, blind or stopped, or while a newer
inventory is being sent. Then no instance counts as missing on that host, and an instance in its
last inventory may still be there.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from vmmonitor.model import instance as states
from vmmonitor.model.desired import DesiredState, DesiredStatus
from vmmonitor.model.drift import Drift
from vmmonitor.model.instance import Instance
from vmmonitor.model.observed import ObservedInstance

MISSING = "reconcile.missing"
NOT_RUNNING = "reconcile.not_running"
_PAUSED = "reconcile.paused"
UNEXPECTED = "reconcile.unexpected"
TWO_HOSTS = "reconcile.two_hosts"
WRONG_HOST = "reconcile.wrong_host"

#: The observed state is the desired one, or there is no desired state.
AGREES = "agrees"
#: The states cannot be compared now.
UNKNOWN = "unknown"

#: Reasons of a pause that ends without a recovery.
TEMPORARY_PAUSES = frozenset(
    {"migration", "migrated", "postcopy", "save", "dump", "snapshot", "starting_up"}
    | {"shutting_down"}
)


def compare(
    desired: DesiredState | None,
    observed: Sequence[ObservedInstance],
    trusted: Collection[str],
    owner: str = "",
) -> Drift | str:
    """Return the drift of one instance, or AGREES or UNKNOWN.

    :param desired: None if the expectation does not know the instance.
    :param observed: this instance on all hosts that report it.
    :param trusted: hosts whose inventories can be trusted now.
    :param owner: the host that the instance belongs to; empty without one.
    """
    if desired and desired.state == DesiredStatus.BUSY:
        return UNKNOWN
    present = [each for each in observed if each.present and each.host in trusted]
    running = sorted(
        (each for each in present if each.seen.state == states.RUNNING), key=lambda each: each.host
    )
    if len(running) > 1:
        return _two_hosts(desired, running, owner)
    if desired is None:
        return AGREES
    if desired.state == DesiredStatus.RUNNING:
        return _should_run(desired, observed, running, trusted)
    return _found(UNEXPECTED, desired, running[0]) if running else AGREES


def _two_hosts(
    desired: DesiredState | None, running: Sequence[ObservedInstance], owner: str
) -> Drift:
    home = desired.host if desired and desired.host else owner
    homes = [each for each in running if each.host == home]
    first = (homes or running)[0]
    return Drift(
        instance=first.seen.instance,
        host=first.host,
        hosts=tuple(each.host for each in running),
        type=TWO_HOSTS,
        detail="",
        desired=desired.state if desired else "",
        facts=_facts(desired, running),
    )


def _should_run(
    desired: DesiredState,
    observed: Sequence[ObservedInstance],
    running: Sequence[ObservedInstance],
    trusted: Collection[str],
) -> Drift | str:
    if running:
        at_home = desired.host in ("", running[0].host)
        return AGREES if at_home else _found(WRONG_HOST, desired, running[0])
    elsewhere = [each for each in observed if each.present and each.host != desired.host]
    if desired.host not in trusted or any(_may_live(each) for each in elsewhere):
        return UNKNOWN
    home = next((each for each in observed if each.present and each.host == desired.host), None)
    if home is None:
        return _missing(desired, observed)
    return _not_running(desired, home)


def _may_live(instance: ObservedInstance) -> bool:
    """Return whether an instance may run there, or start to.

    On a host that is not trusted it was there before; on another host it is paused or unreadable.
    """
    return instance.seen.state != states.SHUTOFF


def _missing(desired: DesiredState, observed: Sequence[ObservedInstance]) -> Drift:
    before = [each for each in observed if each.host == desired.host]
    return Drift(
        instance=_known(desired, before),
        host=desired.host,
        hosts=(desired.host,),
        type=MISSING,
        detail="",
        desired=desired.state,
        facts=_facts(desired, before),
    )


def _not_running(desired: DesiredState, home: ObservedInstance) -> Drift | str:
    seen = home.seen
    if seen.state == states.PMSUSPENDED:
        return AGREES
    if seen.state == states.PAUSED:
        return UNKNOWN if seen.reason in TEMPORARY_PAUSES else _found(_PAUSED, desired, home)
    if seen.state == states.CRASHED:
        return _found(NOT_RUNNING, desired, home)
    if seen.state != states.SHUTOFF or seen.reason == "migrated":
        # Unreadable, or migrated to a host that has no agent or has not reported the arrival yet.
        return UNKNOWN
    return _found(NOT_RUNNING if seen.persistent else MISSING, desired, home)


def _found(kind: str, desired: DesiredState, instance: ObservedInstance) -> Drift:
    return Drift(
        instance=_known(desired, [instance]),
        host=instance.host,
        hosts=(instance.host,),
        type=kind,
        detail=instance.seen.reason or instance.seen.state,
        desired=desired.state,
        facts=_facts(desired, [instance]),
    )


def _known(desired: DesiredState, observed: Sequence[ObservedInstance]) -> Instance:
    """Return the instance as its host reports it, with more facts, or as the expectation does."""
    return observed[0].seen.instance if observed else desired.instance


def _facts(
    desired: DesiredState | None, observed: Sequence[ObservedInstance]
) -> Mapping[str, Any]:
    """Return the facts that an operator needs in the event."""
    facts: dict[str, Any] = {
        "seen": {
            each.host: f"{each.seen.state}/{each.seen.reason}" for each in observed if each.present
        }
    }
    if desired:
        facts |= {"expected": desired.state, "expected_host": desired.host}
        if desired.updated_at:
            facts["expected_since"] = desired.updated_at
    return facts
