# SPDX-License-Identifier: Apache-2.0
"""The process source: observes the end of the QEMU process of an instance at once.

One thread waits for all processes in one ``epoll``, without polling and without libvirt. The
running instances are known from the other sources.
"""

import contextlib
import os
import queue
import resource
import selectors
import threading
import time

from oslo_config import cfg
from oslo_log import log

from vmmonitor import sources
from vmmonitor.model.event import Observation, RawEvent, Reachability, SourceSnapshot
from vmmonitor.model.instance import ALIVE, Instance, QemuOwner
from vmmonitor.sources import procfs
from vmmonitor.sources.procfs import QemuProcess

LOG = log.getLogger(__name__)

PROCESS_SOURCE = "process"
#: Maximum duration, in seconds, of ``stop``; nothing blocks the thread.
WATCH_STOP_TIMEOUT = 5.0
#: Delay, in seconds, after an unexpected error.
ERROR_DELAY = 1.0
#: Number of open files that are left to the rest of the agent.
SPARE_FILES = 256
#: Events of an instance that has a process afterwards. The second one ends an incoming migration;
#: it is not a reason to search for another process of a watched instance.
START_TYPE = "lifecycle.started"
RESUME_TYPE = "lifecycle.resumed"


class ThreadWaker:
    """Wakes a thread that waits in a selector. Thread-safe."""

    def __init__(self) -> None:
        """Open the eventfd."""
        self._lock = threading.Lock()
        self._is_open = True
        self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """Return the file descriptor that the selector waits for."""
        return self._eventfd

    def wake(self) -> None:
        """Wake the thread; no effect after ``close``, when the number may be another file's."""
        with self._lock:
            if self._is_open:
                os.eventfd_write(self._eventfd, 1)

    def clear(self) -> None:
        """Let the selector wait for the next ``wake``."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._eventfd)

    def close(self) -> None:
        """Close the eventfd."""
        with self._lock:
            if self._is_open:
                self._is_open = False
                os.close(self._eventfd)


class ProcessSource(sources.Source):
    """Watches the QEMU process of every running instance."""

    def __init__(self, conf: cfg.ConfigOpts, observe: sources.Observe):
        """Store the collaborators; start no thread."""
        super().__init__(conf, observe)
        self._queue: queue.SimpleQueue[SourceSnapshot | RawEvent] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="process-watch", daemon=True)
        self._stopping = threading.Event()
        self._waker = ThreadWaker()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._waker, selectors.EVENT_READ)
        #: UUID of an instance -> the youngest of its watched processes.
        self._watched: dict[str, QemuProcess] = {}
        self._obstacle: str | None = None
        #: Of the last listing. No instance is watched before the first one.
        self._owner = QemuOwner()

    def start(self) -> None:
        """Start watching, and return at once. A stopped source cannot be started again."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching. Stopping twice has no effect."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._waker.wake()
        if self._thread.ident is not None:
            self._thread.join(WATCH_STOP_TIMEOUT)
        self._close()

    def follow(self, observation: Observation) -> None:
        """Queue listings and starts, which show the running instances."""
        if isinstance(observation, SourceSnapshot) or (
            isinstance(observation, RawEvent) and observation.type in (START_TYPE, RESUME_TYPE)
        ):
            self._queue.put(observation)
            self._waker.wake()

    # -- the thread ----------------------------------------------------------------------------
    def _run(self) -> None:
        self._report_reachability()
        while not self._stopping.is_set():
            try:
                self._selector.select()
                self._handle_wakeup()
            except Exception:
                # A bug must not leave the host unmonitored.
                LOG.exception("Unexpected error in the process source; continuing")
                self._stopping.wait(ERROR_DELAY)

    def _handle_wakeup(self) -> None:
        # In this order, so that a process that ended before a start is not taken for the new one.
        wanted = self._drain_queue()
        for key, _ in self._selector.select(0):
            if key.data:
                self._observe_exit(key.data)
                self._unwatch(key.fd, key.data)
        if wanted:
            self._watch_instances(wanted)

    def _drain_queue(self) -> dict[str, bool]:
        """Return the running instances: UUID -> whether a new process was started."""
        wanted: dict[str, bool] = {}
        # Cleared first: an item that is queued after the last check below wakes the thread again.
        self._waker.clear()
        while not self._queue.empty():
            observation = self._queue.get()
            if isinstance(observation, RawEvent):
                uuid = observation.instance.uuid
                wanted[uuid] = wanted.get(uuid, False) or observation.type == START_TYPE
            else:
                self._owner = observation.owner or self._owner
                for seen in observation.seen:
                    if seen.state in ALIVE:
                        wanted.setdefault(seen.instance.uuid, False)
        return wanted

    def _observe_exit(self, process: QemuProcess) -> None:
        attributes = {"pid": process.pid, "ran_for_s": round(process.age(), 3)}
        if self._watched.get(process.instance_uuid) != process:
            attributes["replaced"] = True
        self.observe(
            RawEvent(
                source=PROCESS_SOURCE,
                type="process.exited",
                detail="",
                occurred_at=_now(),
                instance=Instance(uuid=process.instance_uuid),
                attributes=attributes,
            )
        )

    def _unwatch(self, pidfd: int, process: QemuProcess) -> None:
        self._selector.unregister(pidfd)
        os.close(pidfd)
        if self._watched.get(process.instance_uuid) == process:
            del self._watched[process.instance_uuid]

    def _watch_instances(self, wanted: dict[str, bool]) -> None:
        self._report_reachability()
        unwatched = {
            uuid for uuid, is_new in wanted.items() if is_new or uuid not in self._watched
        }
        if not unwatched or self._obstacle:
            return
        found = procfs.find(unwatched, self._owner)
        new = [process for process in found.values() if self._is_new(process)]
        room = _reserve_files(len(self._selector.get_map()), len(new))
        for process in new[:room]:
            self._watch(process)
        if room < len(new):
            LOG.error(
                "Cannot watch %d more QEMU processes: the limit of open files is too low "
                "(LimitNOFILE of the agent's systemd unit, or ulimit -n)",
                len(new) - room,
            )
        missing = unwatched - set(found) - set(self._watched)
        if missing:
            LOG.warning(
                "%d running instances have no QEMU process on this host, for example %s",
                len(missing),
                min(missing),
            )

    def _is_new(self, process: QemuProcess) -> bool:
        known = self._watched.get(process.instance_uuid)
        return known is None or known.started < process.started

    def _watch(self, process: QemuProcess) -> None:
        pidfd = procfs.open_pidfd(process)
        if pidfd is None:
            return
        self._selector.register(pidfd, selectors.EVENT_READ, process)
        self._watched[process.instance_uuid] = process
        LOG.debug("Watching process %d of instance %s", process.pid, process.instance_uuid)

    def _report_reachability(self) -> None:
        """Observe whether processes can be watched, if that has changed."""
        obstacle = procfs.find_obstacle()
        if obstacle != self._obstacle:
            self._obstacle = obstacle
            self.observe(
                Reachability(
                    source=PROCESS_SOURCE, reachable=not obstacle, at=_now(), reason=obstacle
                )
            )

    def _close(self) -> None:
        for pidfd, process in [(key.fd, key.data) for key in self._selector.get_map().values()]:
            if process:
                self._unwatch(pidfd, process)
        self._selector.close()
        self._waker.close()


def _reserve_files(used: int, wanted: int) -> int:
    """Return how many of the wanted files may be opened; raises the limit if that helps.

    :param used: number of files that are open in this source.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if used + wanted + SPARE_FILES > soft and soft < hard:
        LOG.info("Raising the limit of open files from %d to %d", soft, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return max(0, min(wanted, soft - used - SPARE_FILES))


def _now() -> int:
    return time.time_ns() // 1000
