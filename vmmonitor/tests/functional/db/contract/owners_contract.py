# SPDX-License-Identifier: Apache-2.0
"""Owners of instances and claims of other hosts, on every database."""

import dataclasses
from typing import Any

from vmmonitor.db import agents, incidents, inventories, owners
from vmmonitor.db.session import Database
from vmmonitor.model import errors
from vmmonitor.model.instance import RUNNING, SHUTOFF, Seen
from vmmonitor.model.ownership import HostClaim, Owner
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.race import race
from vmmonitor.tests.functional.db.samples import NOON


def owner(**fields: Any) -> Owner:
    return Owner(
        **{"instance_uuid": samples.new_id(), "host": "compute-1", "since": NOON} | fields
    )


def claim(uuid: str, **fields: Any) -> HostClaim:
    known = {
        "instance": samples.instance(uuid=uuid),
        "host": "compute-2",
        "since": NOON,
        "last_at": NOON,
        "running": True,
        "contested": False,
    }
    return HostClaim(**{**known, **fields})


class OwnersContract:
    database: Database

    def test_owners_and_claims_are_read_together(self: Any) -> None:
        one, two = owner(), owner(released_at=NOON)
        first = claim(one.instance_uuid)
        second = claim(one.instance_uuid, host="compute-3", contested=True, running=False)
        self.database.run(owners.insert, [one, two])
        self.database.run(owners.insert_claims, [second, first])
        uuids = [one.instance_uuid, two.instance_uuid, samples.new_id()]
        with self.database.reader() as tx:
            found, claims = owners.load(tx, uuids)
            self.assertEqual([first, second], owners.claims_of(tx, one.instance_uuid))
            places = {(one.instance_uuid, "compute-3")}
            self.assertEqual(places, owners.contested_places(tx))
        self.assertEqual({one.instance_uuid: one, two.instance_uuid: two}, found)
        self.assertEqual({first.host: first, second.host: second}, _by_host(claims))

    def test_one_of_several_hosts_becomes_the_first_owner(self: Any) -> None:
        uuid = samples.new_id()
        databases = [self.another() for _ in range(4)]
        hosts = [owner(instance_uuid=uuid, host=f"compute-{number}") for number in range(4)]
        results = race(4, lambda n: databases[n].run(owners.insert, [hosts[n]]))
        lost = [one for one in results if isinstance(one, errors.Conflict)]
        self.assertEqual(3, len(lost), results)

    def test_owner_is_replaced_only_if_unchanged(self: Any) -> None:
        before = owner()
        released = dataclasses.replace(before, released_at=NOON)
        moved = dataclasses.replace(before, host="compute-2", since=NOON + 1)
        self.database.run(owners.insert, [before])
        self.database.run(owners.replace, before, released)
        with self.assertRaises(errors.Conflict):
            self.database.run(owners.replace, before, moved)
        self.database.run(owners.replace, released, moved)
        with self.database.reader() as tx:
            self.assertEqual(moved, owners.owner_of(tx, before.instance_uuid))
            self.assertEqual({}, owners.changed_since(tx, NOON + 2))
            changed = owners.changed_since(tx, NOON + 1)
        self.assertEqual({before.instance_uuid: "compute-2"}, changed)

    def test_claim_is_examined_by_one_engine(self: Any) -> None:
        one = owner()
        self.database.run(owners.insert, [one])
        self.database.run(owners.insert_claims, [claim(one.instance_uuid)])
        with self.database.reader() as tx:
            (due,) = owners.claims_to_check(tx, NOON, 5)
        self.assertTrue(self.database.run(owners.update_claim, due, checked_at=NOON))
        self.assertFalse(self.database.run(owners.update_claim, due, checked_at=NOON))
        with self.database.reader() as tx:
            self.assertEqual([], owners.claims_to_check(tx, NOON, 5))
            self.assertEqual({}, owners.reported_claims(tx))
        self.database.run(owners.set_reported, due, NOON)
        with self.database.reader() as tx:
            self.assertEqual({"compute-2": 1}, owners.reported_claims(tx))
        self.database.run(owners.delete_claims, [due])
        with self.database.reader() as tx:
            self.assertEqual([], owners.claims_of(tx, one.instance_uuid))

    def test_only_current_inventories_of_monitored_hosts_show_running_instances(self: Any) -> None:
        uuid = samples.new_id()
        cases = {"up": ("up", RUNNING), "late": ("stopped", RUNNING), "off": ("up", SHUTOFF)}
        for host, (state, seen) in cases.items():
            report = samples.report(host=host, state=state, inventory_digest="d")
            self.database.run(agents.store_report, report, NOON)
            found = [Seen(instance=samples.instance(uuid=uuid), state=seen)]
            self.database.run(inventories.replace, host, "d", found, NOON)
        places = {(uuid, host) for host in cases}
        with self.database.reader() as tx:
            self.assertEqual({(uuid, "up")}, owners.running_watched(tx, places))
        newer = samples.report(host="up", inventory_digest="e")
        self.database.run(agents.store_report, newer, NOON)
        with self.database.reader() as tx:
            self.assertEqual(set(), owners.running_watched(tx, places))

    def test_owner_of_an_open_incident_is_not_purged(self: Any) -> None:
        failed, forgotten = owner(), owner()
        self.database.run(owners.insert, [failed, forgotten])
        incident = samples.incident(instance=samples.instance(uuid=failed.instance_uuid))
        self.database.run(incidents.insert, [incident])
        self.assertEqual(1, self.database.run(owners.purge, NOON + 1, 10))
        with self.database.reader() as tx:
            self.assertEqual(failed, owners.owner_of(tx, failed.instance_uuid))


def _by_host(claims: dict[tuple[str, str], HostClaim]) -> dict[str, HostClaim]:
    return {host: one for (_, host), one in claims.items()}
