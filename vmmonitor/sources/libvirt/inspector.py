# SPDX-License-Identifier: Apache-2.0
"""Examines one instance at the request of an engine; read-only.

Any call into libvirt may hang, so each examination runs in its own thread, and its caller receives
the findings up to then.
"""

import concurrent.futures
import contextlib
import dataclasses
import threading

import libvirt
from oslo_config import cfg

from vmmonitor.bounded_call import BoundedCalls, TooManyCalls
from vmmonitor.model import instance as states
from vmmonitor.model.inspection import ABSENT_STATE, Inspection
from vmmonitor.model.instance import QemuOwner
from vmmonitor.sources import procfs
from vmmonitor.sources.libvirt import decode
from vmmonitor.sources.libvirt.connection import EVENT_LOOP, connect
from vmmonitor.sources.libvirt.liveness.probe import ALL_DISKS
from vmmonitor.sources.libvirt.processes import survey
from vmmonitor.sources.libvirt.qemu_owner import guess_owner

#: Maximum number of examinations in progress, those that hang in libvirt included.
MAX_EXAMINATIONS = 32

_NOTHING_KNOWN = Inspection(state="", reason="", managed=False, process=False, answers=None)


class DomainInspector:
    """Examines instances, at most once at a time for each."""

    def __init__(self, conf: cfg.ConfigOpts):
        """Store the options; connect to nothing yet."""
        self._options = conf.libvirt
        self._calls = BoundedCalls(MAX_EXAMINATIONS)
        self._guard = threading.Lock()
        self._examined: set[str] = set()
        self._owner = guess_owner(self._options.uri)

    def inspect(self, instance_uuid: str, timeout: float, fault: str = "") -> Inspection:
        """Return what libvirt and ``/proc`` show about an instance within a limited time.

        :param timeout: maximum duration, in seconds.
        :param fault: why the instance is known not to work; its QEMU is then not asked.
        """
        examination = _Examination(instance_uuid, self._options, fault)
        if self._begin(examination):
            concurrent.futures.wait([examination.done], timeout)
        self._owner = examination.owner or self._owner
        found, is_surveyed = examination.found, examination.is_surveyed
        if found.process or is_surveyed:
            return found
        return dataclasses.replace(found, process=_may_run(instance_uuid, self._owner))

    def _begin(self, examination: "_Examination") -> bool:
        """Start an examination; return False if an earlier one of the instance still hangs."""
        uuid = examination.instance_uuid
        with self._guard:
            if uuid in self._examined:
                return False
            self._examined.add(uuid)

        def run() -> None:
            try:
                examination.run()
            finally:
                with self._guard:
                    self._examined.discard(uuid)
                examination.done.set_result(None)

        try:
            self._calls.begin(f"libvirt-inspection-{uuid[:8]}", run)
        except (TooManyCalls, RuntimeError):
            with self._guard:
                self._examined.discard(uuid)
            return False
        return True


class _Examination:
    """One examination; ``found`` has the findings up to now."""

    def __init__(self, instance_uuid: str, options: cfg.ConfigOpts.GroupAttr, fault: str):
        self.instance_uuid = instance_uuid
        self.found = _NOTHING_KNOWN
        self.done: concurrent.futures.Future[None] = concurrent.futures.Future()
        self.owner: QemuOwner | None = None
        #: True if ``found.process`` is the result of a survey.
        self.is_surveyed = False
        self._options = options
        self._fault = fault

    def run(self) -> None:
        """Examine the instance; an error leaves the rest unknown."""
        with (
            contextlib.suppress(libvirt.libvirtError, OSError),
            EVENT_LOOP.running(),
            contextlib.closing(connect(self._options, True)) as opened,
        ):
            self._examine(opened)

    def _examine(self, opened: libvirt.virConnect) -> None:
        try:
            domain = opened.lookupByUUIDString(self.instance_uuid)
            state, reason = decode.decode_state(*domain.state())
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                return
            self.found = dataclasses.replace(_NOTHING_KNOWN, state=ABSENT_STATE)
            self._survey(opened)
            return
        lives = state in states.ALIVE
        answers = None if lives and not self._fault else False
        self.found = Inspection(
            state=state, reason=reason, managed=True, process=lives, answers=answers
        )
        if not lives:
            self._survey(opened)
        elif answers is None:
            self.found = dataclasses.replace(self.found, answers=_answers(domain))

    def _survey(self, opened: libvirt.virConnect) -> None:
        """Search a process that libvirt does not manage."""
        result = survey(opened, self.instance_uuid)
        self.owner = result.owner
        may_run = bool(result.obstacle) or self.instance_uuid.lower() in result.processes
        self.found = dataclasses.replace(self.found, process=may_run)
        self.is_surveyed = True


def _answers(domain: libvirt.virDomain) -> bool | None:
    """Return True if the QEMU of a domain answers; None if that is unknown."""
    try:
        domain.blockStats(ALL_DISKS)
    except libvirt.libvirtError:
        return None
    return True


def _may_run(instance_uuid: str, owner: QemuOwner) -> bool:
    """Return whether an instance has a QEMU process, or may have one that cannot be seen."""
    uuid = instance_uuid.lower()
    try:
        return bool(procfs.find_obstacle()) or uuid in procfs.find({uuid}, owner)
    except OSError:
        return True
