# SPDX-License-Identifier: Apache-2.0
"""The qmp source: events of QEMU's monitor that libvirt reports in less detail, or not at all.

libvirt passes on monitor events only to a connection that may write, so that this source has its
own connection.
"""

import dataclasses
import time
from typing import Any

import libvirt
import libvirt_qemu
from oslo_config import cfg

from vmmonitor import sources
from vmmonitor.model.event import RawEvent
from vmmonitor.sources.libvirt import qmp_events
from vmmonitor.sources.libvirt.connection import Connection
from vmmonitor.sources.libvirt.reconnecting import ReconnectingSource

#: Maximum number of cached disks. During many errors, libvirt is asked once for each disk.
MAX_CACHED_DISKS = 1024


@dataclasses.dataclass(frozen=True, slots=True)
class MonitorCallback:
    """The values of one callback.

    :param run_id: libvirt's number of the domain, which changes at every start.
    :param occurred_at: microseconds since the epoch.
    """

    name: str
    uuid: str
    domain: str
    run_id: int
    details: Any
    occurred_at: int


class MonitorEvents(Connection):
    """A connection that delivers the monitor events of ``qmp_events.QEMU_EVENT_TYPES``."""

    def _subscribe(self) -> None:
        self._subscriptions.append(
            libvirt_qemu.qemuMonitorEventRegister(
                self.libvirt,
                None,
                qmp_events.SUBSCRIPTION,
                self._receive,
                None,
                libvirt_qemu.VIR_CONNECT_DOMAIN_QEMU_MONITOR_EVENT_REGISTER_REGEX,
            )
        )

    def _unsubscribe(self, subscription: int) -> None:
        libvirt_qemu.qemuMonitorEventDeregister(self.libvirt, subscription)

    def _receive(
        self,
        _conn: libvirt.virConnect,
        domain: libvirt.virDomain,
        name: str,
        _seconds: int,
        _micros: int,
        details: Any,
        _opaque: None,
    ) -> None:
        now = time.time_ns() // 1000
        # One character more than the limit shows that the text was cut.
        cut = details[: qmp_events.MAX_DETAILS + 1] if details else ""
        self._deliver(
            MonitorCallback(name, domain.UUIDString(), domain.name(), domain.ID(), cut, now)
        )


class QmpSource(ReconnectingSource):
    """Listens to the monitors of all QEMU processes, through libvirt."""

    name = qmp_events.QMP_SOURCE

    def __init__(self, conf: cfg.ConfigOpts, observe: sources.Observe):
        """Store the collaborators; start no thread."""
        super().__init__(conf, observe)
        #: (UUID, run id, block node) -> names of the disk.
        self._disks: dict[tuple[str, int, str], dict[str, str]] = {}

    def _open(self) -> Connection:
        return MonitorEvents(self.conf.libvirt, False, self._queue.put)

    def _listen(self, connection: Connection) -> None:
        self._report_reachability(True)
        self._drain_queue(None)

    def _handle(self, item: MonitorCallback) -> bool:
        event = qmp_events.decode_monitor_event(
            item.name, item.uuid, item.domain, item.details, item.occurred_at
        )
        if event.type == "block_io_error":
            event = self._add_disk(event, item)
        self.observe(event)
        return False

    def _add_disk(self, event: RawEvent, callback: MonitorCallback) -> RawEvent:
        """Return the event with the names of its disk, if they are known."""
        node_name = event.attributes.get("node_name")
        if not isinstance(node_name, str):
            return event
        key = (callback.uuid, callback.run_id, node_name)
        if key not in self._disks and not self._cache_disk(key):
            return event
        return dataclasses.replace(event, attributes={**event.attributes, **self._disks[key]})

    def _cache_disk(self, key: tuple[str, int, str]) -> bool:
        """Cache the disk of a block node; return False if its domain no longer runs."""
        uuid, run_id, node_name = key
        if not self._connection or self._stopping.is_set():
            return False
        try:
            domain = self._connection.libvirt.lookupByUUIDString(uuid)
            xml = domain.XMLDesc()
        except libvirt.libvirtError:
            return False
        if domain.ID() != run_id:
            return False
        if len(self._disks) >= MAX_CACHED_DISKS:
            self._disks.clear()
        self._disks[key] = qmp_events.find_disk(xml, node_name)
        return True
