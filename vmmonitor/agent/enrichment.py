# SPDX-License-Identifier: Apache-2.0
"""Attributes that the agent adds to an event, because the source cannot know them."""

import os
from collections.abc import Mapping
from typing import Any

from oslo_config import cfg

from vmmonitor.agent.inventory import Inventory
from vmmonitor.model import event as events
from vmmonitor.model import storage
from vmmonitor.model.event import RawEvent
from vmmonitor.sources.libvirt.storage import find_storage

#: Types of events that a shutdown of the host explains.
_STOP_TYPES = events.WITHOUT_A_CAUSE | {"lifecycle.stopped"}


class HostShutdown:
    """Adds ``host_going_down`` to the stops that happen while the host shuts down."""

    def __init__(self, conf: cfg.ConfigOpts):
        """Store the configuration.

        :param conf: ``[agent] going_down_file`` exists while the host shuts down.
        """
        self._conf = conf

    def attributes_of(self, raw: RawEvent, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Return the attributes to add to an event; empty for most events."""
        explained = raw.type in _STOP_TYPES and os.path.exists(self._conf.agent.going_down_file)
        return {"host_going_down": True} if explained else {}


class StorageAttribution:
    """Adds the storage that a disk error comes from, found in the definition of the instance."""

    def __init__(self, inventory: Inventory):
        """Store the inventory, which holds the definitions."""
        self._inventory = inventory

    def attributes_of(self, raw: RawEvent, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Return the attributes to add to an event; empty unless it reports a disk error.

        :param attributes: attributes of the event; they name the disk.
        """
        seen = self._inventory.get(raw.instance.uuid) if storage.concerns(raw) else None
        return dict(find_storage(seen.definition, attributes)) if seen else {}
