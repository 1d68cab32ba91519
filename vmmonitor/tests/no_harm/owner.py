# SPDX-License-Identifier: Apache-2.0
"""The owner of the guests: stops, starts, migrates and moves them, as with virsh."""

import dataclasses
import enum
import threading
import time
from collections.abc import Sequence

import libvirt

from vmmonitor.testing.guest import STATES, Guest
from vmmonitor.testing.hypervisor import Hypervisor
from vmmonitor.tests.fixtures.services import free_port

#: Errors of libvirt that say that the operation had no effect.
REFUSED = (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID)
#: States of a domain without a QEMU process.
DOWN = ("absent", "shutoff", "crashed")
MIGRATE = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_UNSAFE
MIGRATE_DEFINITION = libvirt.VIR_MIGRATE_PERSIST_DEST | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE


class Journal:
    """The actions of a round with their times, for the report of a failure."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: list[str] = []

    def write(self, text: str) -> None:
        """Add a line."""
        now = time.time()
        clock = time.strftime("%H:%M:%S", time.gmtime(now)) + f"{now % 1:.3f}"[1:]
        with self._lock:
            self._lines.append(f"{clock} {text}")

    def read(self) -> str:
        """Return all lines."""
        with self._lock:
            return "\n".join(self._lines)


class Wish(enum.Enum):
    """The state that the owner wants for a guest."""

    RUNNING = "running"
    STOPPED = "stopped"
    #: An operation ended with an error, and may have had its effect.
    UNKNOWN = "unknown"


@dataclasses.dataclass
class Owned:
    """A guest of the owner.

    :param host: number of the host of its last successful operation, from 0.
    :param stops: (end of the stop, begin of the next start) of each stop by the owner; the second
        is infinite without a later start. Seconds since the epoch.
    """

    guest: Guest
    persistent: bool
    host: int
    wish: Wish = Wish.RUNNING
    stops: list[tuple[float, float]] = dataclasses.field(default_factory=list)

    @property
    def uuid(self) -> str:
        """The UUID of the instance."""
        return self.guest.uuid

    def note_start(self) -> None:
        """Note that the owner starts it now: it may run from now on."""
        if self.stops and self.stops[-1][1] == float("inf"):
            self.stops[-1] = (self.stops[-1][0], time.time())


class Owner:
    """Operates guests on two hosts.

    :param hosts: the hosts.
    :param owned: the guests; ``Owned`` says where they run.
    """

    def __init__(self, hosts: Sequence[Hypervisor], owned: Sequence[Owned]):
        self._hosts = hosts
        self.owned = owned

    def operate(self, number: int, operation: str, journal: Journal) -> None:
        """Perform an operation of ``plan.OPERATIONS`` on a guest; errors only go to the journal.

        :param number: number of the guest.
        """
        one = self.owned[number]
        operations = {"toggle": self._toggle, "migrate": self._migrate, "move": self._move}
        name = f"guest {number} ({one.guest.name}) on node-{one.host + 1}"
        journal.write(f"owner: {operation} {name}, wanted {one.wish.value}")
        try:
            result = operations[operation](one)
        except libvirt.libvirtError as error:
            result = f"refused: {error}"
            if error.get_error_code() not in REFUSED:
                one.wish = Wish.UNKNOWN
        journal.write(f"owner: {operation} {name}: {result}")

    def states(self, one: Owned) -> list[str]:
        """Return the state of a guest on each host; ``absent`` if libvirt does not know it.

        :raises libvirt.libvirtError: a libvirtd does not answer.
        """
        found = []
        for host in self._hosts:
            with host.connection() as connection:
                try:
                    state = connection.lookupByUUIDString(one.uuid).state()[0]
                    found.append(STATES[state])
                except libvirt.libvirtError as error:
                    if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                        raise
                    found.append("absent")
        return found

    def runs(self, one: Owned) -> bool:
        """Return whether a guest runs on exactly one host and is not active on the other."""
        states = self.states(one)
        active = [number for number, state in enumerate(states) if state not in DOWN]
        if len(active) == 1 and states[active[0]] == "running":
            one.host = active[0]
            return True
        return False

    def repair(self, one: Owned, journal: Journal) -> None:
        """Let a guest run on one host only.

        :raises libvirt.libvirtError: libvirt refused it.
        """
        states = self.states(one)
        if not self.runs(one):
            journal.write(f"owner: start {one.guest.name} again: {states}")
            for host in self._hosts:
                _remove(host, one.uuid)
            one.note_start()
            self._start(one)
        one.note_start()
        one.wish = Wish.RUNNING

    def _toggle(self, one: Owned) -> str:
        if one.wish is Wish.RUNNING:
            return "stopped" if self._stop(one) else "it does not run"
        one.note_start()
        self._start(one)
        one.wish = Wish.RUNNING
        return "started"

    def _move(self, one: Owned) -> str:
        if one.wish is Wish.RUNNING and not self._stop(one):
            return "it does not run"
        _remove(self._hosts[one.host], one.uuid)
        one.host = 1 - one.host
        one.note_start()
        self._start(one)
        one.wish = Wish.RUNNING
        return "moved"

    def _migrate(self, one: Owned) -> str:
        flags = MIGRATE | (MIGRATE_DEFINITION if one.persistent else 0)
        parameters = {libvirt.VIR_MIGRATE_PARAM_URI: f"tcp://127.0.0.1:{free_port()}"}
        source, target = self._hosts[one.host], self._hosts[1 - one.host]
        with source.connection() as here, target.connection() as there:
            here.lookupByUUIDString(one.uuid).migrate3(there, parameters, flags)
        one.host = 1 - one.host
        return "migrated"

    def _stop(self, one: Owned) -> bool:
        with self._hosts[one.host].connection() as connection:
            domain = connection.lookupByUUIDString(one.uuid)
            if not domain.isActive():
                return False
            domain.destroy()
        one.stops.append((time.time(), float("inf")))
        one.wish = Wish.STOPPED
        return True

    def _start(self, one: Owned) -> None:
        with self._hosts[one.host].connection() as connection:
            if one.persistent:
                connection.defineXML(one.guest.xml).create()
            else:
                connection.createXML(one.guest.xml)


def _remove(host: Hypervisor, uuid: str) -> None:
    """Destroy and undefine a domain, if the host has it."""
    with host.connection() as connection:
        try:
            domain = connection.lookupByUUIDString(uuid)
            if domain.isActive():
                domain.destroy()
            if domain.isPersistent():
                domain.undefine()
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise
