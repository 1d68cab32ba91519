# SPDX-License-Identifier: Apache-2.0
"""The qmp source: what QEMU says itself, where libvirt is silent or says less.

libvirt passes on QEMU's monitor events to a connection that may write, so this source has one of
its own.
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

#: Disks that are remembered, so that a storm of errors asks libvirt once per disk.
MAX_DISKS = 1024


@dataclasses.dataclass(frozen=True, slots=True)
class MonitorCallback:
    """What one callback brought, as it came.

    :param run_id: libvirt's number of the domain, another one whenever it is started.
    :param occurred_at: microseconds since the epoch.
    """

    name: str
    uuid: str
    domain: str
    run_id: int
    details: Any
    occurred_at: int


class MonitorEvents(Connection):
    """A connection that brings the monitor events that the source is for."""

    def _ask(self) -> None:
        self._callbacks.append(
            libvirt_qemu.qemuMonitorEventRegister(
                self.libvirt,
                None,
                qmp_events.PATTERN,
                self._said,
                None,
                libvirt_qemu.VIR_CONNECT_DOMAIN_QEMU_MONITOR_EVENT_REGISTER_REGEX,
            )
        )

    def _give_back(self, callback: int) -> None:
        libvirt_qemu.qemuMonitorEventDeregister(self.libvirt, callback)

    def _said(
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
        # One character too many shows that it was cut.
        cut = details[: qmp_events.MAX_DETAILS + 1] if details else ""
        self._put(MonitorCallback(name, domain.UUIDString(), domain.name(), domain.ID(), cut, now))


class QmpSource(ReconnectingSource):
    """Listens to the monitors of all QEMU processes, through libvirt."""

    name = qmp_events.SOURCE

    def __init__(self, conf: cfg.ConfigOpts, observe: sources.Observe):
        """Keep what is needed; start nothing."""
        super().__init__(conf, observe)
        self._disks: dict[tuple[str, int, str], dict[str, str]] = {}

    def _open(self) -> Connection:
        return MonitorEvents(self.conf.libvirt, False, self._queue.put)

    def _listen(self, connection: Connection) -> None:
        self._reach(True)
        self._take(None)

    def _arrived(self, said: MonitorCallback) -> bool:
        event = qmp_events.event(said.name, said.uuid, said.domain, said.details, said.occurred_at)
        if event.type == "block_io_error":
            event = self._with_disk(event, said)
        self.observe(event)
        return False

    def _with_disk(self, event: RawEvent, said: MonitorCallback) -> RawEvent:
        node_name = event.attributes.get("node_name")
        if not isinstance(node_name, str):
            return event
        key = (said.uuid, said.run_id, node_name)
        if key not in self._disks and not self._look(key):
            return event
        return dataclasses.replace(event, attributes={**event.attributes, **self._disks[key]})

    def _look(self, key: tuple[str, int, str]) -> bool:
        """Remember which disk a block node belongs to, if its domain is still there."""
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
        if len(self._disks) >= MAX_DISKS:
            self._disks.clear()
        self._disks[key] = qmp_events.disk(xml, node_name)
        return True
