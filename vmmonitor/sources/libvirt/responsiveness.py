# SPDX-License-Identifier: Apache-2.0
"""Finds out within a bounded time if the QEMU of an instance hangs."""

import concurrent.futures
import contextlib
import threading

import libvirt
from oslo_config import cfg

from vmmonitor.bounded_call import BoundedCalls, TooManyCalls
from vmmonitor.sources import procfs
from vmmonitor.sources.libvirt.connection import EVENT_LOOP, connect, ignore_unsupported
from vmmonitor.sources.libvirt.qemu_owner import read_owner

#: Maximum number of commands without an answer, hung ones included.
MAX_PROBES = 32

#: State of a process in ``/proc`` -> what it means for a QEMU that does not answer.
PROCESS_STATES = {
    "D": "its process waits in the kernel and cannot be interrupted",
    "T": "its process is stopped",
    "Z": "its process is a zombie",
}
#: State of a process under a debugger, which stops it on purpose.
TRACED = "t"


class Inconclusive(Exception):
    """QEMU did not answer, but may not be the cause."""


class ResponsivenessProbe:
    """Sends a cheap command to QEMU processes, at most one at a time to each."""

    def __init__(self, options: cfg.ConfigOpts.GroupAttr):
        """Send nothing yet.

        :param options: the group ``[libvirt]``.
        """
        self._options = options
        self._lock = threading.Lock()
        self._calls = BoundedCalls(limit=MAX_PROBES)
        self._pending: dict[str, concurrent.futures.Future[None]] = {}

    def find_hang(self, domain: libvirt.virDomain, timeout: float) -> str:
        """Return why the QEMU of a domain certainly hangs; empty if it answers.

        libvirt reports a hung monitor as occupied for a long time. While a command waits for
        anything else (libvirtd is busy, or another job holds the domain without using the
        monitor), QEMU may be healthy.

        :param timeout: time, in seconds, within which QEMU must answer.
        :raises Inconclusive: no answer, for a reason that is not QEMU's own.
        :raises libvirt.libvirtError: the domain no longer runs, or libvirt is not reachable.
        """
        try:
            self._probe(domain.UUIDString()).result(timeout)
            return ""
        except concurrent.futures.TimeoutError:
            trouble = f"it did not answer within {timeout:g} s"
        except libvirt.libvirtError as error:
            trouble = f"it gave no answer: {error}"
        state, _, since_ms = domain.controlInfo()
        occupied = state == libvirt.VIR_DOMAIN_CONTROL_OCCUPIED and since_ms >= timeout * 500
        if not occupied and state != libvirt.VIR_DOMAIN_CONTROL_ERROR:
            raise Inconclusive(f"{trouble}, but libvirt does not wait for its QEMU")
        process = _read_process_state(domain)
        if process == TRACED:
            raise Inconclusive(f"{trouble}: a debugger traces its process")
        return f"{trouble}, {PROCESS_STATES[process]}" if process in PROCESS_STATES else trouble

    def _probe(self, uuid: str) -> "concurrent.futures.Future[None]":
        """Return the pending command to a QEMU, or send a new one.

        A call into libvirt cannot be cancelled: while QEMU hangs, so does one thread, not more.
        """
        with self._lock:
            if uuid not in self._pending:
                name = f"libvirt-question-{uuid[:8]}"
                try:
                    future = self._calls.begin(name, lambda: self._send_command(uuid))
                except TooManyCalls as error:
                    raise Inconclusive(f"its QEMU was not asked: {error}") from error
                self._pending[uuid] = future
            return self._pending[uuid]

    def _send_command(self, uuid: str) -> None:
        try:
            with EVENT_LOOP.running(), contextlib.closing(connect(self._options, False)) as opened:
                domain = opened.lookupByUUIDString(uuid)
                with ignore_unsupported():
                    domain.ioThreadInfo(libvirt.VIR_DOMAIN_AFFECT_LIVE)
        finally:
            with self._lock:
                self._pending.pop(uuid, None)


def _read_process_state(domain: libvirt.virDomain) -> str:
    """Return the state of a domain's QEMU process; empty if it cannot be read.

    :raises libvirt.libvirtError: libvirt is not reachable.
    """
    uuid = domain.UUIDString()
    owner = read_owner(domain.connect())
    with contextlib.suppress(OSError, KeyError):
        return procfs.read_state(procfs.find({uuid}, owner)[uuid].pid)
    return ""
