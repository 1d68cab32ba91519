# SPDX-License-Identifier: Apache-2.0
"""Stores the inventories of hosts, and what they show about the owners of instances.

The first host with an instance in its inventory owns it. An instance that its owner's inventory
does not contain any longer is released. An instance of another host that runs is a claim.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence

from vmmonitor.db import inventories, owners
from vmmonitor.db.incidents import Place
from vmmonitor.db.session import Transaction
from vmmonitor.engine.ingest.ownership import mark_contested, renewed
from vmmonitor.model import instance as instances
from vmmonitor.model.instance import Seen
from vmmonitor.model.observed import FAILED_STOPS
from vmmonitor.model.ownership import HostClaim, Owner
from vmmonitor.rpc.inventory_wire import InventoryChanges

#: Reasons of a stop that may be a failure on this host.
_MAY_HAVE_FAILED = FAILED_STOPS | {"vanished"}


def replace(tx: Transaction, host: str, digest: str, seen: Sequence[Seen], now: int) -> None:
    """Replace the inventory of a host.

    :param now: microseconds since the epoch, engines' clock.
    :raises vmmonitor.model.errors.Conflict: another engine stores it at the same time.
    """
    before = {one.instance.uuid for one in inventories.present(tx, host)}
    inventories.replace(tx, host, digest, seen, now)
    _observe(tx, host, seen, before - {one.instance.uuid for one in seen}, now)


def change(tx: Transaction, changes: InventoryChanges, now: int) -> str:
    """Apply a delta to the inventory of a host, if it applies to the stored one.

    :param now: microseconds since the epoch, engines' clock.
    :returns: digest of the inventory that is stored afterwards.
    :raises vmmonitor.model.errors.Conflict: another engine stores it at the same time.
    """
    host, changed, gone = changes.host, changes.changed, changes.gone
    held = inventories.change(tx, host, changes.base_digest, changes.digest, changed, gone, now)
    if held == changes.digest:
        _observe(tx, host, changed, gone, now)
    return held


def _observe(
    tx: Transaction, host: str, seen: Sequence[Seen], gone: Collection[str], now: int
) -> None:
    uuids = {one.instance.uuid for one in seen} | set(gone)
    known, claims = owners.load(tx, uuids)
    owners.insert(
        tx, [_new_owner(one, host, now) for one in seen if one.instance.uuid not in known]
    )
    for one in seen:
        owner = known.get(one.instance.uuid)
        if owner and owner.host == host and owner.released_at and one.state in instances.ALIVE:
            owners.replace(tx, owner, dataclasses.replace(owner, released_at=None))
    for uuid in sorted(gone):
        owner = known.get(uuid)
        if owner and owner.host == host and owner.released_at is None:
            owners.replace(tx, owner, dataclasses.replace(owner, released_at=now))
    foreign = {
        one.instance.uuid: one
        for one in seen
        if one.instance.uuid in known and known[one.instance.uuid].host != host
    }
    _claim(tx, host, foreign, known, claims, now)


def _new_owner(seen: Seen, host: str, now: int) -> Owner:
    is_stopped = seen.state == instances.SHUTOFF and seen.reason not in _MAY_HAVE_FAILED
    return Owner(
        instance_uuid=seen.instance.uuid,
        host=host,
        since=now,
        released_at=now if is_stopped else None,
    )


def _claim(
    tx: Transaction,
    host: str,
    foreign: Mapping[str, Seen],
    known: Mapping[str, Owner],
    claims: Mapping[Place, HostClaim],
    now: int,
) -> None:
    """Store the claims on the instances of other hosts that an inventory contains."""
    changed = {}
    for uuid, one in foreign.items():
        claim = claims.get((uuid, host))
        runs = one.state == instances.RUNNING
        if claim is None and runs:
            changed[uuid, host] = HostClaim(
                instance=one.instance,
                host=host,
                since=now,
                last_at=now,
                running=True,
                contested=False,
            )
        elif claim is not None:
            after = renewed(claim, runs, now) if runs else claim
            if after != claim:
                changed[uuid, host] = after
    hosts = {uuid: owner.host for uuid, owner in known.items()}
    changed = mark_contested(tx, changed, claims, hosts)
    owners.insert_claims(tx, [one for place, one in changed.items() if place not in claims])
    for place, claim in changed.items():
        if place in claims:
            owners.touch_claim(tx, claim)
