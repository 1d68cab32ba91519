# SPDX-License-Identifier: Apache-2.0
"""How an instance is brought back on this host: started, created, reset or resumed.

One whose QEMU hangs is ended by force first. That is not asked for by anybody who wants it
stopped, though libvirt's words for it are the same, so it is told before it is done: an agent
that dies in between goes on with it afterwards.
"""

import collections
import contextlib
import dataclasses
import queue
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import libvirt
from oslo_config import cfg
from oslo_log import log

from vmmonitor.model.event import HUNG, STALLED
from vmmonitor.model.instance import CRASHED, PAUSED, RUNNING, SHUTOFF, Seen
from vmmonitor.sources.libvirt import decode, metadata, responsiveness
from vmmonitor.sources.libvirt import domain as domains
from vmmonitor.sources.libvirt.connection import EVENT_LOOP, connect

LOG = log.getLogger(__name__)

# -- what was done -----------------------------------------------------------------------------
STARTED = "started"
CREATED = "created"
RESET = "reset"
RESUMED = "resumed"
NONE = "none"
REFUSED = "refused"
#: What is done first about one that hangs. Then it is started or created.
ENDED = "ended"
#: What QEMU itself must do, and cannot if it hangs.
BY_QEMU = frozenset({RESET, RESUMED, ENDED})

#: The cause for which one that runs is reset.
STALL = f"{STALLED}/failed"
#: The state of an instance that this libvirt does not know.
ABSENT = "absent"
#: Seconds between two looks at an instance that was resumed.
PROBE_INTERVAL = 0.1
#: Number of resets that are remembered, so that none is done twice.
RESETS = 1000

#: (state, reason) -> what brings it back. What is in neither table is somebody's intention (a
#: pause by the user, a migration, a snapshot), or nobody knows: it is refused.
BY_REASON = {
    (RUNNING, "shutting_down"): REFUSED,
    (SHUTOFF, "migrated"): REFUSED,  # it runs elsewhere; twice would ruin its disks
    (SHUTOFF, "destroyed"): REFUSED,  # somebody wanted it to stop, whatever happened before
    (SHUTOFF, "saved"): REFUSED,  # so here, and its memory waits in a file
    (SHUTOFF, "from_snapshot"): REFUSED,
    (PAUSED, "crashed"): RESET,
    (PAUSED, "ioerror"): RESUMED,
    (PAUSED, "watchdog"): RESET,
}
BY_STATE = {
    ABSENT: CREATED,
    RUNNING: NONE,
    SHUTOFF: STARTED,
    CRASHED: RESET,
}

#: Last reason of one that libvirt has forgotten -> why it is not created again.
NOT_AGAIN = {
    "migrated": "it was moved to another host",
    "destroyed": "somebody destroyed it",
    "saved": "it was saved to a file",
}
FORGOTTEN = "libvirt was told to forget it: it was deleted, or moved to another host"

#: libvirt's errors that another try would meet again.
FINAL = frozenset(
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


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RecoveryOrder:
    """What is to be done; see ``Actions.recover``.

    :param deadline: nothing is begun later; monotonic time.
    """

    instance_uuid: str
    last: Seen | None
    deadline: float
    cause: str = ""
    recovery_id: str = ""
    ended: bool = False
    ending: Callable[[bool], None] = lambda _: None

    @property
    def hung(self) -> bool:
        """Whether the instance is said to hang."""
        return self.cause.partition("/")[0] == HUNG


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ActionResult:
    """What came of an attempt to bring an instance back.

    :param ok: it runs now.
    :param action: started, created, reset, resumed, none (nothing was done) or refused (it
        must not be touched).
    :param state: the instance's state afterwards, ``absent``, or empty if that is not known.
    :param reason: libvirt's reason for that state.
    :param message: one sentence for a person.
    :param retry: whether trying again later makes sense.
    """

    ok: bool
    action: str
    state: str = ""
    reason: str = ""
    message: str
    retry: bool = False


class DomainActions:
    """Brings instances of this host back, each at most once at a time."""

    def __init__(self, conf: cfg.ConfigOpts):
        """Keep what is needed; connect to nothing yet.

        :param conf: the service's configuration.
        """
        self._options = conf.libvirt
        self._guard = threading.Lock()
        # An instance has a lock for as long as anybody holds or waits for it.
        self._locks: weakref.WeakValueDictionary[str, threading.Lock] = (
            weakref.WeakValueDictionary()
        )
        self._stopping = threading.Event()
        self._questions = responsiveness.ResponsivenessProbe(conf.libvirt)
        #: Ids of the recoveries that reset an instance.
        self._resets: collections.deque[str] = collections.deque(maxlen=RESETS)

    def stop(self) -> None:
        """Let no probe go on, and start nothing new."""
        self._stopping.set()

    def recover(
        self, instance_uuid: str, last: Seen | None, timeout: float, **more: Any
    ) -> ActionResult:
        """Bring an instance back, whatever it takes; safe to call twice, or at once.

        An ordinary failure is a result too. A libvirtd that hangs ends the wait, not the call
        itself: until that ends, further calls for the same instance fail.

        :param last: what was last seen of it; needed only if libvirt has forgotten it.
        :param timeout: seconds after which the answer is that it failed.
        :param more: ``cause``, the kind of the failure (``liveness.hung/monitor``), without
            which one that runs is left alone; ``recovery_id``, which is the same if the same is
            asked for again; ``ended``, whether an earlier recovery ended it by force and did
            not start it; ``ending``, called with True before it is ended by force, and with
            False if it was not.
        """
        deadline = time.monotonic() + timeout
        errand = RecoveryOrder(instance_uuid=instance_uuid, last=last, deadline=deadline, **more)
        if self._stopping.is_set():
            return _failed("the agent is stopping", retry=True)
        lock = self._lock_of(instance_uuid)
        if not lock.acquire(timeout=max(0, timeout)):
            return _failed("another recovery of this instance is still running", retry=True)
        answer: queue.SimpleQueue[ActionResult] = queue.SimpleQueue()
        # libvirt's calls cannot be interrupted: one that hangs must not hang its caller.
        threading.Thread(
            target=self._attempt,
            args=(errand, lock, answer),
            name=f"libvirt-action-{instance_uuid[:8]}",
            daemon=True,
        ).start()
        try:
            return answer.get(timeout=max(0, deadline - time.monotonic()))
        except queue.Empty:
            return _failed(f"libvirt did not finish within {timeout:g} s", retry=True)

    def _lock_of(self, instance_uuid: str) -> threading.Lock:
        with self._guard:
            return self._locks.setdefault(instance_uuid, threading.Lock())

    def _attempt(
        self,
        errand: RecoveryOrder,
        lock: threading.Lock,
        answer: "queue.SimpleQueue[ActionResult]",
    ) -> None:
        try:
            with EVENT_LOOP.running(), contextlib.closing(connect(self._options, False)) as opened:
                result = self._bring_back(opened, errand)
        except responsiveness.Inconclusive as unsure:
            result = _failed(str(unsure), retry=True)
        except libvirt.libvirtError as error:
            result = _failed(str(error), retry=error.get_error_code() not in FINAL)
        except Exception as error:
            LOG.exception("Recovering instance %s failed", errand.instance_uuid)
            result = _failed(f"{type(error).__name__}: {error}", retry=True)
        finally:
            lock.release()
        answer.put(result)

    def _bring_back(self, opened: libvirt.virConnect, errand: RecoveryOrder) -> ActionResult:
        found = domain, state, reason = _find(opened, errand.instance_uuid)
        action = self._choose(state, reason, errand)
        message = _why_not(action, state, reason, errand)
        if message:
            return _refused(state, reason, message)
        if domain is not None and action in BY_QEMU:
            word = self._questions.ask(domain, self._patience(errand))
            if word != responsiveness.ANSWERS:
                return self._replace(opened, errand, found, word)
        if action == ENDED:
            return _result(NONE, *_find(opened, errand.instance_uuid)[1:], "it answers again")
        try:
            self._do(opened, domain, state, action, errand)
        except libvirt.libvirtError:
            # Somebody else may have been faster.
            if _find(opened, errand.instance_uuid)[1] != RUNNING:
                raise
            action = NONE
        if action == RESUMED:
            self._probe(opened, errand)
        return _result(action, *_find(opened, errand.instance_uuid)[1:])

    def _choose(self, state: str, reason: str, errand: RecoveryOrder) -> str:
        if errand.ended and (state, reason) == (SHUTOFF, "destroyed"):
            return STARTED
        action = BY_REASON.get((state, reason)) or BY_STATE.get(state, REFUSED)
        if action != NONE:
            return action
        if errand.hung:
            return ENDED
        again = errand.recovery_id in self._resets
        return RESET if errand.cause == STALL and not again else NONE

    def _patience(self, errand: RecoveryOrder) -> float:
        """Return the seconds in which a QEMU must answer: most is needed for what follows."""
        left = max(0.0, errand.deadline - time.monotonic())
        return min(self._options.answer_timeout, left / 3)

    def _replace(
        self,
        opened: libvirt.virConnect,
        errand: RecoveryOrder,
        found: tuple[libvirt.virDomain, str, str],
        why: str,
    ) -> ActionResult:
        """End an instance whose QEMU does not answer, and start it again.

        :param found: what was found of it before it was asked.
        """
        if not errand.hung:
            return _failed(f"its QEMU cannot be told to: {why}", retry=True)
        domain, state, reason = _find(opened, errand.instance_uuid)
        if domain is None or (domain.ID(), state, reason) != (found[0].ID(), *found[1:]):
            return _failed("something else was done to it meanwhile", retry=True)
        if self._stopping.is_set() or time.monotonic() > errand.deadline:
            return _failed(f"{why}, but it is too late to begin anything", retry=True)
        last = _look(domain)
        if errand.last and errand.last.persistent and not last.persistent:
            return _refused(state, reason, FORGOTTEN)
        errand.ending(True)
        begun = time.monotonic()
        try:
            domain.destroy()
        except libvirt.libvirtError:
            errand.ending(False)
            raise
        LOG.info(
            "Instance %s was ended by force in %.1f s: %s",
            *(errand.instance_uuid, time.monotonic() - begun, why),
        )
        again = dataclasses.replace(errand, last=last, cause="", ended=True)
        result = self._bring_back(opened, again)
        message = f"{why}: it was ended by force, and {result.message}"
        return dataclasses.replace(result, message=message)

    def _do(
        self,
        opened: libvirt.virConnect,
        domain: libvirt.virDomain | None,
        state: str,
        action: str,
        errand: RecoveryOrder,
    ) -> None:
        if domain is None:
            opened.createXML(errand.last.definition if errand.last else "")
        elif action == STARTED:
            domain.create()
        elif action in (RESET, RESUMED):
            if action == RESET:
                domain.reset()
                self._resets.append(errand.recovery_id)
            if state != RUNNING:
                domain.resume()  # a reset alone leaves it paused, or crashed

    def _probe(self, opened: libvirt.virConnect, errand: RecoveryOrder) -> None:
        """Wait for as long as a storage error needs to come back."""
        until = min(errand.deadline, time.monotonic() + self._options.resume_probe)
        while time.monotonic() < until and _find(opened, errand.instance_uuid)[1] == RUNNING:
            if self._stopping.wait(PROBE_INTERVAL):
                return


def _find(
    opened: libvirt.virConnect, instance_uuid: str
) -> tuple[libvirt.virDomain | None, str, str]:
    """Return the domain (None if libvirt has none), its state and the reason of that."""
    try:
        domain = opened.lookupByUUIDString(instance_uuid)
        return domain, *decode.state(*domain.state())
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise
        return None, ABSENT, ""


def _look(domain: libvirt.virDomain) -> Seen:
    """Return what is to be started again, with the passwords that only a writer is told."""
    flags = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
    return dataclasses.replace(domains.look(domain), definition=domain.XMLDesc(flags))


def _why_not(action: str, state: str, reason: str, errand: RecoveryOrder) -> str:
    """Return why nothing may be done; empty if it may."""
    last = errand.last
    if action == REFUSED:
        return f"{state} ({reason}) is not a failure"
    if action != CREATED:
        return ""
    if last is None or not last.definition:
        return "libvirt does not know it, and nothing is remembered to create it from"
    if metadata.uuid_of(last.definition) != errand.instance_uuid.lower():
        return "the remembered definition is another instance's"
    # libvirt forgets a transient domain when it stops, but a persistent one only when told to.
    if last.persistent:
        return FORGOTTEN
    if errand.ended and last.reason == "destroyed":
        return ""
    return NOT_AGAIN.get(last.reason, "")


def _result(action: str, state: str, reason: str, good: str = "it runs already") -> ActionResult:
    ok = state == RUNNING
    if ok:
        message = good if action == NONE else f"it was {action} and runs"
    elif (state, reason) == (PAUSED, "ioerror"):
        message = "the storage error is not over"
    else:
        message = f"it was {action}, then it was {state} ({reason})"
    return ActionResult(
        ok=ok, action=action, state=state, reason=reason, message=message, retry=not ok
    )


def _refused(state: str, reason: str, message: str) -> ActionResult:
    return ActionResult(ok=False, action=REFUSED, state=state, reason=reason, message=message)


def _failed(message: str, retry: bool) -> ActionResult:
    return ActionResult(ok=False, action=NONE, message=message, retry=retry)
