# SPDX-License-Identifier: Apache-2.0
"""The host that the expectation names becomes the owner of an instance."""

from vmmonitor.db import agents, owners
from vmmonitor.engine.ingest import inventory_store
from vmmonitor.model.desired import DesiredStatus
from vmmonitor.tests.functional.engine.base import FAILURE, UUID, delivery
from vmmonitor.tests.functional.engine.reconcile.test_reconciler import (
    RUNNING,
    Nova,
    ReconcileCase,
)


class NamingNova(Nova):
    NAMES_HOST = True


class DesiredOwnersTest(ReconcileCase):
    def setUp(self) -> None:
        super().setUp()
        self.nova = NamingNova()
        self.engine = self.reconciliation()
        self.host("a")
        self.host("b")

    def owner(self) -> str:
        with self.database.reader() as tx:
            return owners.hosts_of(tx, [UUID]).get(UUID, "")

    def reported_by(self, host: str) -> None:
        """Let a host own the instance, as the first one with it in its inventory."""
        self.database.run(inventory_store.replace, host, "x", [RUNNING], self.clock)

    def test_named_host_owns_an_instance_before_its_first_report(self):
        self.nova.says(DesiredStatus.RUNNING, "a")
        self.round()
        self.assertEqual("a", self.owner())

    def test_named_host_replaces_the_host_that_reported_first(self):
        self.reported_by("b")
        self.store(delivery(FAILURE, host="a"))
        self.assertEqual([], self.incidents())
        self.nova.says(DesiredStatus.RUNNING, "a")
        self.round()
        self.assertEqual("a", self.owner())
        self.assertEqual([("a", FAILURE)], [(one.host, one.cause) for one in self.incidents()])

    def test_host_without_an_agent_of_that_name_is_no_owner(self):
        self.reported_by("b")
        self.nova.says(DesiredStatus.RUNNING, "b.example.org")
        self.round()
        self.assertEqual("b", self.owner())
        self.assertEqual({"b": "b.example.org"}, self.names())
        self.nova.says(DesiredStatus.RUNNING, "b")
        self.round()
        self.assertEqual({}, self.names())

    def names(self) -> dict[str, str]:
        with self.database.reader() as tx:
            return agents.expected_names(tx)

    def test_operation_in_progress_leaves_the_owner(self):
        self.reported_by("b")
        self.nova.says(DesiredStatus.BUSY, "a")
        self.round()
        self.assertEqual("b", self.owner())

    def test_owner_that_changes_between_rounds_is_compared_again(self):
        self.nova.says(DesiredStatus.RUNNING, "a")
        self.round()
        self.nova.expected, self.nova.whole = [], False
        with self.database.reader() as tx:
            before = owners.owner_of(tx, UUID)
        after = owners.Owner(instance_uuid=UUID, host="b", since=self.clock)
        self.database.run(owners.replace, before, after)
        self.round()
        self.assertEqual("a", self.owner())

    def test_instance_on_two_hosts_is_reported_at_its_owner(self):
        self.nova.expected = []
        self.reported_by("b")
        for name in ("a", "b"):
            self.host(name, RUNNING)
        self.round()
        self.round()
        self.assertEqual(
            [("b", "reconcile.two_hosts")], [(one.host, one.cause) for one in self.incidents()]
        )

    def test_contested_claim_does_not_hide_that_the_instance_is_missing(self):
        self.nova.says(DesiredStatus.RUNNING, "a")
        self.host("a", RUNNING)
        self.round()
        self.database.run(inventory_store.replace, "b", "x", [RUNNING], self.clock)
        self.host("a")
        self.round()
        self.round()
        self.assertIn("reconcile.missing", self.told())
        self.assertNotIn("reconcile.wrong_host/booted", self.told())
