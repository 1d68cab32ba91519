# SPDX-License-Identifier: Apache-2.0
"""Recovers instances of this host: starts, creates, resets or resumes them.

An instance whose QEMU hangs is first stopped by force. libvirt reports that stop like one that
an operator ordered, so it is announced before it is done: if the agent dies in between, the next
recovery continues with the start.
"""

import collections
import contextlib
import dataclasses
import threading
import time
import weakref
from collections.abc import Iterator

import libvirt
from oslo_config import cfg
from oslo_log import log

from vmmonitor.bounded_call import BoundedCalls, TooManyCalls
from vmmonitor.model.instance import RUNNING, Seen
from vmmonitor.sources.libvirt import decode, processes, recovery_rules
from vmmonitor.sources.libvirt import domain as domains
from vmmonitor.sources.libvirt.connection import EVENT_LOOP, connect
from vmmonitor.sources.libvirt.definitions import SECURE_XML
from vmmonitor.sources.libvirt.recovery_rules import (
    ABSENT_STATE,
    BY_QEMU,
    UNDEFINED,
    ActionResult,
    DomainAction,
    DomainOrder,
    EffectPermit,
    ForcedStopListener,
    FoundDomain,
    NotPermitted,
)
from vmmonitor.sources.libvirt.responsiveness import Inconclusive, ResponsivenessProbe

LOG = log.getLogger(__name__)


#: Interval of examinations of a resumed instance, in seconds.
RESUME_CHECK_INTERVAL = 0.1
#: Number of remembered resets, so that a repeated request does not reset twice.
MAX_REMEMBERED_RESETS = 1000
#: Maximum number of recoveries in progress, those that hang in libvirt included.
MAX_RECOVERIES = 64

#: libvirt errors that another attempt would meet again.
FINAL_ERRORS = frozenset(
    {
        libvirt.VIR_ERR_ACCESS_DENIED,
        libvirt.VIR_ERR_AUTH_FAILED,
        libvirt.VIR_ERR_AUTH_UNAVAILABLE,
        libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
        libvirt.VIR_ERR_DOM_EXIST,
        libvirt.VIR_ERR_INVALID_ARG,
        libvirt.VIR_ERR_NO_SUPPORT,
        libvirt.VIR_ERR_OPERATION_DENIED,
        libvirt.VIR_ERR_XML_DETAIL,
        libvirt.VIR_ERR_XML_ERROR,
    }
)


class DomainActions:
    """Recovers instances of this host, one recovery of an instance at a time."""

    def __init__(self, conf: cfg.ConfigOpts):
        """Store the options; connect to nothing yet."""
        self._options = conf.libvirt
        self._calls = BoundedCalls(MAX_RECOVERIES)
        self._guard = threading.Lock()
        # A lock exists while a recovery of its instance holds it or waits for it.
        self._locks: weakref.WeakValueDictionary[str, threading.Lock] = (
            weakref.WeakValueDictionary()
        )
        self._stopping = threading.Event()
        self._probe = ResponsivenessProbe(conf.libvirt)
        #: Ids of the recoveries that reset an instance.
        self._resets: collections.deque[str] = collections.deque(maxlen=MAX_REMEMBERED_RESETS)

    def stop(self) -> None:
        """End the waits, and begin no new action."""
        self._stopping.set()

    def recover(
        self,
        instance_uuid: str,
        last: Seen | None,
        timeout: float,
        *,
        cause: str = "",
        recovery_id: str = "",
        stopped_by_recovery: bool = False,
        listener: ForcedStopListener | None = None,
        permit: EffectPermit | None = None,
    ) -> ActionResult:
        """Recover an instance. Idempotent and thread-safe.

        A failure is a result, too. If libvirtd hangs, the wait ends but not the call: until the
        call returns, other recoveries of the same instance fail.

        :param last: last known state of the instance; needed only if libvirt no longer has it.
        :param timeout: maximum duration, in seconds.
        :param cause: kind of the failure (``liveness.hung/monitor``); without it, a running
            instance is left alone.
        :param recovery_id: equal in all attempts of one recovery.
        :param stopped_by_recovery: an earlier attempt stopped the instance by force and did not
            start it.
        :param listener: is called before the instance is stopped by force.
        :param permit: is asked immediately before each effect; None permits all of them.
        """
        order = DomainOrder(
            instance_uuid=instance_uuid,
            last=last,
            deadline=_read_boottime() + timeout,
            cause=cause,
            recovery_id=recovery_id,
            stopped_by_recovery=stopped_by_recovery,
            listener=listener,
            permit=permit,
        )
        if self._stopping.is_set():
            return recovery_rules.fail("the agent is stopping", retry=True)
        lock = self._lock_of(instance_uuid)
        if not lock.acquire(timeout=max(0, timeout)):
            return recovery_rules.fail(
                "another recovery of this instance is still running", retry=True
            )
        try:
            # libvirt's calls cannot be interrupted: one that hangs must not hang its caller.
            future = self._calls.begin(
                f"libvirt-action-{instance_uuid[:8]}", lambda: self._attempt(order, lock)
            )
        except (TooManyCalls, RuntimeError) as error:
            lock.release()
            return recovery_rules.fail(f"the recovery was not begun: {error}", retry=True)
        try:
            return future.result(max(0, order.deadline - _read_boottime()))
        except TimeoutError:
            return recovery_rules.fail(f"libvirt did not finish within {timeout:g} s", retry=True)

    def is_recovering(self, instance_uuid: str) -> bool:
        """Return whether a recovery of an instance is in progress, even one that hangs."""
        with self._guard:
            lock = self._locks.get(instance_uuid)
            return lock is not None and lock.locked()

    def _lock_of(self, instance_uuid: str) -> threading.Lock:
        with self._guard:
            return self._locks.setdefault(instance_uuid, threading.Lock())

    def _attempt(self, order: DomainOrder, lock: threading.Lock) -> ActionResult:
        try:
            with EVENT_LOOP.running(), contextlib.closing(connect(self._options, False)) as opened:
                return self._recover(opened, order)
        except (Inconclusive, NotPermitted, processes.StartUnsafe) as error:
            return recovery_rules.fail(str(error), retry=True)
        except libvirt.libvirtError as error:
            return recovery_rules.fail(
                str(error), retry=error.get_error_code() not in FINAL_ERRORS
            )
        except Exception as error:
            LOG.exception(
                "Recovery %s of instance %s failed", order.recovery_id, order.instance_uuid
            )
            return recovery_rules.fail(f"{type(error).__name__}: {error}", retry=True)
        finally:
            lock.release()

    def _recover(self, opened: libvirt.virConnect, order: DomainOrder) -> ActionResult:
        found = _find(opened, order.instance_uuid)
        action = recovery_rules.choose_action(
            found, order, was_reset=order.recovery_id in self._resets
        )
        obstacle = recovery_rules.find_obstacle(action, found, order)
        if obstacle and obstacle.is_planned:
            return recovery_rules.refuse(found, obstacle.message)
        if obstacle:
            return recovery_rules.fail(obstacle.message, retry=False, found=found)
        if found.domain is not None and action in BY_QEMU:
            hang = self._probe.find_hang(found.domain, self._answer_timeout(order))
            if hang:
                return self._replace(opened, order, found, hang)
        if action == DomainAction.STOPPED:
            after = _find(opened, order.instance_uuid)
            return recovery_rules.describe_result(DomainAction.NONE, after, "it answers again")
        try:
            self._carry_out(opened, found, action, order)
        except (processes.StartUnsafe, libvirt.libvirtError):
            # Another client may have started it in the meantime.
            if _find(opened, order.instance_uuid).state != RUNNING:
                raise
            action = DomainAction.NONE
        if action == DomainAction.RESUMED:
            self._wait_for_storage_error(opened, order)
        return recovery_rules.describe_result(action, _find(opened, order.instance_uuid))

    def _answer_timeout(self, order: DomainOrder) -> float:
        """Return the seconds within which QEMU must answer; the rest is for the actions."""
        left = max(0.0, order.deadline - _read_boottime())
        return min(self._options.answer_timeout, left / 3)

    def _replace(
        self,
        opened: libvirt.virConnect,
        order: DomainOrder,
        probed: FoundDomain,
        hang: str,
    ) -> ActionResult:
        """Stop an instance whose QEMU hangs, and start it again.

        :param probed: the domain as it was before the probe.
        :param hang: why QEMU certainly hangs.
        """
        if not order.is_hung:
            return recovery_rules.fail(f"its QEMU cannot carry it out: {hang}", retry=True)
        found = _find(opened, order.instance_uuid)
        if not found.is_same(probed):
            return recovery_rules.fail("its state has changed in the meantime", retry=True)
        last = _look(found.domain)
        if order.last and order.last.persistent and not last.persistent:
            return recovery_rules.refuse(found, UNDEFINED)
        self._stop_by_force(found.domain, order, hang)
        again = dataclasses.replace(order, last=last, cause="", stopped_by_recovery=True)
        result = self._recover(opened, again)
        message = f"{hang}: it was stopped by force, and {result.message}"
        return dataclasses.replace(result, message=message)

    @contextlib.contextmanager
    def _effect(self, action: DomainAction, order: DomainOrder) -> Iterator[None]:
        """Begin an effect on the domain only if the order still permits it.

        Each call into libvirt before it may have hung for any time. The effect may hang, too, and
        happen after the order has ended: it is reported.

        :raises NotPermitted: the effect must not begin.
        """
        self._check_permitted(action, order)
        if order.permit and (obstacle := order.permit.find_obstacle()):
            raise NotPermitted(f"it was not {action}: {obstacle}")
        self._check_permitted(action, order)
        yield
        if order.permit:
            order.permit.effect_done(action)

    def _check_permitted(self, action: DomainAction, order: DomainOrder) -> None:
        if self._stopping.is_set():
            raise NotPermitted(f"it was not {action}: the agent is stopping")
        if _read_boottime() >= order.deadline:
            raise NotPermitted(f"it was not {action}: there is no time left to begin anything")

    def _stop_by_force(self, domain: libvirt.virDomain, order: DomainOrder, hang: str) -> None:
        with self._effect(DomainAction.STOPPED, order):
            self._destroy(domain, order, hang)

    def _destroy(self, domain: libvirt.virDomain, order: DomainOrder, hang: str) -> None:
        if order.listener:
            order.listener.forced_stop_begins()
        begun = time.monotonic()
        try:
            domain.destroy()
        except libvirt.libvirtError:
            if order.listener:
                order.listener.forced_stop_failed()
            raise
        LOG.info(
            "Recovery %s stopped instance %s by force in %.1f s: %s",
            order.recovery_id,
            order.instance_uuid,
            time.monotonic() - begun,
            hang,
        )

    def _carry_out(
        self,
        opened: libvirt.virConnect,
        found: FoundDomain,
        action: DomainAction,
        order: DomainOrder,
    ) -> None:
        domain = found.domain
        if domain is None or action == DomainAction.STARTED:
            owner = processes.check_no_process(opened, order.instance_uuid)
            with self._effect(action, order):
                # Without a call into libvirt, which may hang.
                processes.check_process_ended(owner, order.instance_uuid)
                if domain is None:
                    opened.createXML(order.last.definition if order.last else "")
                else:
                    domain.create()
        elif action in (DomainAction.RESET, DomainAction.RESUMED):
            if action == DomainAction.RESET:
                with self._effect(action, order):
                    domain.reset()
                    self._resets.append(order.recovery_id)
            if found.state != RUNNING:
                with self._effect(DomainAction.RESUMED, order):
                    domain.resume()  # a reset alone leaves it paused, or crashed

    def _wait_for_storage_error(self, opened: libvirt.virConnect, order: DomainOrder) -> None:
        """Wait for as long as a storage error needs to pause a resumed instance again."""
        until = min(order.deadline, _read_boottime() + self._options.resume_probe)
        while _read_boottime() < until:
            if _find(opened, order.instance_uuid).state != RUNNING:
                return
            if self._stopping.wait(RESUME_CHECK_INTERVAL):
                return


def _read_boottime() -> float:
    """Return CLOCK_BOOTTIME in seconds, which continues while the host is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _find(opened: libvirt.virConnect, instance_uuid: str) -> FoundDomain:
    try:
        domain = opened.lookupByUUIDString(instance_uuid)
        return FoundDomain(domain, *decode.decode_state(*domain.state()))
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise
        return FoundDomain(None, ABSENT_STATE, "")


def _look(domain: libvirt.virDomain) -> Seen:
    """Return the state of a domain that runs, with a definition that includes its secrets."""
    return dataclasses.replace(
        domains.examine(domain),
        definition=domain.XMLDesc(SECURE_XML),
        may_lack_password=False,
        ran_here=True,
    )
