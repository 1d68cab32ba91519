# SPDX-License-Identifier: Apache-2.0
"""How an instance is brought back on this host: started, created, reset or resumed."""

import contextlib
import dataclasses
import queue
import threading
import time
import weakref

import libvirt
from oslo_config import cfg
from oslo_log import log

from vmmonitor.model.instance import CRASHED, PAUSED, RUNNING, SHUTOFF, Seen
from vmmonitor.sources.libvirt import decode, metadata
from vmmonitor.sources.libvirt.connection import EVENT_LOOP, connect

LOG = log.getLogger(__name__)

# -- what was done -----------------------------------------------------------------------------
STARTED = "started"
CREATED = "created"
RESET = "reset"
RESUMED = "resumed"
NONE = "none"
REFUSED = "refused"

#: The state of an instance that this libvirt does not know.
ABSENT = "absent"
#: Seconds between two looks at an instance that was resumed.
PROBE_INTERVAL = 0.1

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


class Actions:
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

    def stop(self) -> None:
        """Let no probe go on, and start nothing new."""
        self._stopping.set()

    def recover(self, instance_uuid: str, last: Seen | None, timeout: float) -> ActionResult:
        """Bring an instance back, whatever it takes; safe to call twice, or at once.

        An ordinary failure is a result too. A libvirtd that hangs ends the wait, not the call
        itself: until that ends, further calls for the same instance fail.

        :param last: what was last seen of it; needed only if libvirt has forgotten it.
        :param timeout: seconds after which the answer is that it failed.
        """
        deadline = time.monotonic() + timeout
        if self._stopping.is_set():
            return _failed("the agent is stopping", retry=True)
        lock = self._lock_of(instance_uuid)
        if not lock.acquire(timeout=max(0, timeout)):
            return _failed("another recovery of this instance is still running", retry=True)
        answer: queue.SimpleQueue[ActionResult] = queue.SimpleQueue()
        # libvirt's calls cannot be interrupted: one that hangs must not hang its caller.
        threading.Thread(
            target=self._attempt,
            args=(instance_uuid, last, deadline, lock, answer),
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
        instance_uuid: str,
        last: Seen | None,
        deadline: float,
        lock: threading.Lock,
        answer: "queue.SimpleQueue[ActionResult]",
    ) -> None:
        try:
            with EVENT_LOOP.running(), contextlib.closing(connect(self._options, False)) as opened:
                result = self._bring_back(opened, instance_uuid, last, deadline)
        except libvirt.libvirtError as error:
            result = _failed(str(error), retry=error.get_error_code() not in FINAL)
        except Exception as error:
            LOG.exception("Recovering instance %s failed", instance_uuid)
            result = _failed(f"{type(error).__name__}: {error}", retry=True)
        finally:
            lock.release()
        answer.put(result)

    def _bring_back(
        self, opened: libvirt.virConnect, instance_uuid: str, last: Seen | None, deadline: float
    ) -> ActionResult:
        domain, state, reason = _find(opened, instance_uuid)
        action = BY_REASON.get((state, reason)) or BY_STATE.get(state, REFUSED)
        message = _why_not(action, state, reason, instance_uuid, last)
        if message:
            return ActionResult(
                ok=False, action=REFUSED, state=state, reason=reason, message=message
            )
        try:
            _do(opened, domain, action, last)
        except libvirt.libvirtError:
            # Somebody else may have been faster.
            if _find(opened, instance_uuid)[1] != RUNNING:
                raise
            action = NONE
        if action == RESUMED:
            self._probe(opened, instance_uuid, deadline)
        return _result(action, *_find(opened, instance_uuid)[1:])

    def _probe(self, opened: libvirt.virConnect, instance_uuid: str, deadline: float) -> None:
        """Wait for as long as a storage error needs to come back."""
        until = min(deadline, time.monotonic() + self._options.resume_probe)
        while time.monotonic() < until and _find(opened, instance_uuid)[1] == RUNNING:
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


def _why_not(action: str, state: str, reason: str, instance_uuid: str, last: Seen | None) -> str:
    """Return why nothing may be done; empty if it may."""
    if action == REFUSED:
        return f"{state} ({reason}) is not a failure"
    if action != CREATED:
        return ""
    if last is None or not last.definition:
        return "libvirt does not know it, and nothing is remembered to create it from"
    if metadata.uuid_of(last.definition) != instance_uuid.lower():
        return "the remembered definition is another instance's"
    # libvirt forgets a transient domain when it stops, but a persistent one only when told to.
    if last.persistent:
        return "libvirt was told to forget it: it was deleted, or moved to another host"
    return NOT_AGAIN.get(last.reason, "")


def _do(
    opened: libvirt.virConnect, domain: libvirt.virDomain | None, action: str, last: Seen | None
) -> None:
    if domain is None:
        opened.createXML(last.definition if last else "")
    elif action == STARTED:
        domain.create()
    elif action in (RESET, RESUMED):
        if action == RESET:
            domain.reset()  # which alone leaves it paused, or crashed
        domain.resume()


def _result(action: str, state: str, reason: str) -> ActionResult:
    ok = state == RUNNING
    if ok:
        message = "it runs already" if action == NONE else f"it was {action} and runs"
    elif (state, reason) == (PAUSED, "ioerror"):
        message = "the storage error is not over"
    else:
        message = f"it was {action}, then it was {state} ({reason})"
    return ActionResult(
        ok=ok, action=action, state=state, reason=reason, message=message, retry=not ok
    )


def _failed(message: str, retry: bool) -> ActionResult:
    return ActionResult(ok=False, action=NONE, message=message, retry=retry)
