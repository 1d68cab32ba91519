# SPDX-License-Identifier: Apache-2.0
"""Keeps the copy of the inventory that the engine holds equal to the agent's."""

from oslo_config import cfg

from vmmonitor.agent.inventory import Inventory
from vmmonitor.agent.snapshot import EMPTY_SNAPSHOT, InventorySnapshot
from vmmonitor.rpc.engine_api import EngineAPI
from vmmonitor.rpc.inventory_wire import InventoryChanges
from vmmonitor.rpc.transport import Unsupported


class InventorySync:
    """Sends deltas, and a whole snapshot to an engine that does not hold the last one sent.

    The engine answers each report and each delta with the digest of what it holds, which shows
    whether a delta was lost. For the reporter thread.
    """

    def __init__(self, *, conf: cfg.ConfigOpts, inventory: Inventory, engine: EngineAPI):
        """Store the collaborators."""
        self._conf = conf
        self._inventory = inventory
        self._engine = engine
        #: The last snapshot that the engine has received.
        self._sent = EMPTY_SNAPSHOT
        self._sent_version = -1

    def has_changes(self) -> bool:
        """Return whether the inventory differs from the last snapshot sent."""
        return self._inventory.listed and self._inventory.version != self._sent_version

    def send_changes(self) -> None:
        """Send the changes since the last snapshot, on the assumption that the engine holds it.

        :raises vmmonitor.model.errors.VmmonitorError: no engine accepted them.
        """
        self.resync(self._sent.digest)

    def resync(self, held: str) -> None:
        """Make the engine hold the current inventory.

        :param held: digest of the inventory that the engine holds.
        :raises vmmonitor.model.errors.VmmonitorError: no engine accepted it.
        """
        version, snapshot = self._inventory.version, self._inventory.snapshot()
        if held != snapshot.digest and not (
            held == self._sent.digest and self._send_delta(snapshot)
        ):
            timeout = self._conf.forwarder.reply_timeout
            self._engine.report_inventory(
                self._conf.host, snapshot.digest, snapshot.all(), timeout
            )
        self._sent, self._sent_version = snapshot, version

    def _send_delta(self, snapshot: InventorySnapshot) -> bool:
        """Send a delta; return whether the engine holds the snapshot afterwards."""
        delta = snapshot.delta_since(self._sent)
        form = InventoryChanges(
            host=self._conf.host,
            base_digest=self._sent.digest,
            digest=snapshot.digest,
            changed=delta.changed,
            gone=delta.gone,
        )
        timeout = self._conf.forwarder.reply_timeout
        try:
            return self._engine.report_inventory_changes(form, timeout) == snapshot.digest
        except Unsupported:
            return False
