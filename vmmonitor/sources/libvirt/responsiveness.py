# SPDX-License-Identifier: Apache-2.0
"""Whether the QEMU of an instance answers, found out without waiting for it for ever."""

import concurrent.futures
import contextlib
import threading

import libvirt
from oslo_config import cfg

from vmmonitor.sources import procfs
from vmmonitor.sources.libvirt.connection import EVENT_LOOP, connect, ignore_unsupported

#: What ``Questions.ask`` returns if the QEMU answered.
ANSWERS = "it answers"

#: States of a process in ``/proc`` -> what they tell of a QEMU that does not answer.
PROCESS = {
    "D": "its process waits for the kernel and cannot be interrupted",
    "T": "its process is stopped",
    "Z": "its process has ended, but not all of it",
}
#: Somebody looks at it with a debugger: it stands still on purpose.
TRACED = "t"


class Inconclusive(Exception):
    """It did not answer, and it may be another's fault."""


class ResponsivenessProbe:
    """Asks QEMUs something cheap, each at most one question at a time."""

    def __init__(self, options: cfg.ConfigOpts.GroupAttr):
        """Ask nothing yet.

        :param options: the group ``[libvirt]``.
        """
        self._options = options
        self._guard = threading.Lock()
        self._asked: dict[str, concurrent.futures.Future[None]] = {}

    def ask(self, domain: libvirt.virDomain, patience: float) -> str:
        """Return ANSWERS, or why it is sure that the domain's QEMU hangs.

        libvirt's word for a monitor that hangs is that it has been occupied for long. Where
        the question waits for anything else (libvirtd is busy, or a job that has the domain to
        itself does without the monitor) QEMU may be well.

        :param patience: seconds in which it must answer.
        :raises Unsure: it did not answer, for a reason that is not its own.
        :raises libvirt.libvirtError: it does not run any more, or libvirt is away.
        """
        trouble = ""
        try:
            self._question(domain.UUIDString()).result(patience)
            return ANSWERS
        except concurrent.futures.TimeoutError:
            trouble = f"it did not answer within {patience:g} s"
        except libvirt.libvirtError as error:
            trouble = f"it gave no answer: {error}"
        state, _, since = domain.controlInfo()
        occupied = state == libvirt.VIR_DOMAIN_CONTROL_OCCUPIED and since >= patience * 500
        if not occupied and state != libvirt.VIR_DOMAIN_CONTROL_ERROR:
            raise Inconclusive(f"{trouble}, but libvirt does not wait for its QEMU")
        process = _process_state(domain.UUIDString())
        if process == TRACED:
            raise Inconclusive(f"{trouble}: somebody traces its process")
        return f"{trouble}, {PROCESS[process]}" if process in PROCESS else trouble

    def _question(self, uuid: str) -> "concurrent.futures.Future[None]":
        """Return the question that is under way, or ask a new one.

        What libvirt waits for cannot be given up: a thread hangs with QEMU, but only one.
        """
        with self._guard:
            if uuid not in self._asked:
                future: concurrent.futures.Future[None] = concurrent.futures.Future()
                self._asked[uuid] = future
                threading.Thread(
                    target=self._put,
                    args=(uuid, future),
                    name=f"libvirt-question-{uuid[:8]}",
                    daemon=True,
                ).start()
            return self._asked[uuid]

    def _put(self, uuid: str, future: "concurrent.futures.Future[None]") -> None:
        error: Exception | None = None
        try:
            with EVENT_LOOP.running(), contextlib.closing(connect(self._options, False)) as opened:
                domain = opened.lookupByUUIDString(uuid)
                with ignore_unsupported():
                    domain.ioThreadInfo(libvirt.VIR_DOMAIN_AFFECT_LIVE)
        except Exception as raised:
            error = raised
        finally:
            with self._guard:
                del self._asked[uuid]
        if error:
            future.set_exception(error)
        else:
            future.set_result(None)


def _process_state(uuid: str) -> str:
    """Return the state of an instance's process, empty if it cannot be told."""
    with contextlib.suppress(OSError, KeyError):
        return procfs.state(procfs.find({uuid})[uuid].pid)
    return ""
