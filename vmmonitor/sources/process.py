# SPDX-License-Identifier: Apache-2.0
"""The process source: the kernel tells at once when the QEMU process of an instance ends.

One thread waits for all of them in one ``epoll``, without polling and without libvirt. Which
instances run is learnt from the other sources.
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
from vmmonitor.model.instance import ALIVE, Instance
from vmmonitor.sources import procfs
from vmmonitor.sources.procfs import QemuProcess

LOG = log.getLogger(__name__)

SOURCE = "process"
#: Seconds for which stop() waits for the thread, which nothing blocks.
JOIN_TIMEOUT = 5.0
#: Seconds after a bug.
PAUSE = 1.0
#: Open files that are left to the rest of the agent.
SPARE_FILES = 256
#: After these an instance has a process. The second is how a migrated one arrives, and is no
#: reason to look for another process where one is watched.
STARTED = "lifecycle.started"
RESUMED = "lifecycle.resumed"


class ThreadWaker:
    """Wakes a thread that waits in a selector; may be rung by any thread, at any time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = True
        self._number = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """Return what the selector waits for."""
        return self._number

    def ring(self) -> None:
        """Wake the thread; once closed, do nothing: its number may be another file's by now."""
        with self._lock:
            if self._open:
                os.eventfd_write(self._number, 1)

    def hush(self) -> None:
        """Wait for the next ring, whether it has been rung or not."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._number)

    def close(self) -> None:
        """Give it back."""
        with self._lock:
            if self._open:
                self._open = False
                os.close(self._number)


class ProcessSource(sources.Source):
    """Watches the QEMU process of every running instance."""

    def __init__(self, conf: cfg.ConfigOpts, observe: sources.Observe):
        """Keep what is needed; start nothing."""
        super().__init__(conf, observe)
        self._queue: queue.SimpleQueue[SourceSnapshot | RawEvent] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="process-watch", daemon=True)
        self._stopping = threading.Event()
        self._bell = ThreadWaker()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._bell, selectors.EVENT_READ)
        #: uuid of an instance -> the youngest of its processes that are watched.
        self._watched: dict[str, QemuProcess] = {}
        self._obstacle: str | None = None

    def start(self) -> None:
        """Start watching, and return at once. Once stopped, it cannot be started again."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching. Stopping twice does nothing."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._bell.ring()
        if self._thread.ident is not None:
            self._thread.join(JOIN_TIMEOUT)
        self._close()

    def follow(self, observation: Observation) -> None:
        """Look for the processes of the instances that run, or that have just started."""
        if isinstance(observation, SourceSnapshot) or (
            isinstance(observation, RawEvent) and observation.type in (STARTED, RESUMED)
        ):
            self._queue.put(observation)
            self._bell.ring()

    # -- the thread ----------------------------------------------------------------------------
    def _run(self) -> None:
        self._reach()
        while not self._stopping.is_set():
            try:
                self._selector.select()
                self._turn()
            except Exception:
                # A bug must not leave the host unwatched.
                LOG.exception("Watching processes failed; it goes on")
                self._stopping.wait(PAUSE)

    def _turn(self) -> None:
        # In this order: what ended before a start was told is not taken for what started.
        wanted = self._wanted()
        for key, _ in self._selector.select(0):
            if key.data:
                self._tell(key.data)
                self._forget(key.fd, key.data)
        if wanted:
            self._look_for(wanted)

    def _wanted(self) -> dict[str, bool]:
        """Return the instances that run, each with whether a new process of it was started."""
        wanted: dict[str, bool] = {}
        # First: who queues after the last look below rings after this.
        self._bell.hush()
        while not self._queue.empty():
            observation = self._queue.get()
            if isinstance(observation, RawEvent):
                uuid = observation.instance.uuid
                wanted[uuid] = wanted.get(uuid, False) or observation.type == STARTED
            else:
                for seen in observation.seen:
                    if seen.state in ALIVE:
                        wanted.setdefault(seen.instance.uuid, False)
        return wanted

    def _tell(self, process: QemuProcess) -> None:
        attributes = {"pid": process.pid, "ran_for_s": round(process.age(), 3)}
        if self._watched.get(process.instance_uuid) != process:
            attributes["replaced"] = True
        self.observe(
            RawEvent(
                source=SOURCE,
                type="process.exited",
                detail="",
                occurred_at=_now(),
                instance=Instance(uuid=process.instance_uuid),
                attributes=attributes,
            )
        )

    def _forget(self, pidfd: int, process: QemuProcess) -> None:
        self._selector.unregister(pidfd)
        os.close(pidfd)
        if self._watched.get(process.instance_uuid) == process:
            del self._watched[process.instance_uuid]

    def _look_for(self, wanted: dict[str, bool]) -> None:
        self._reach()
        unwatched = {uuid for uuid, anew in wanted.items() if anew or uuid not in self._watched}
        if not unwatched or self._obstacle:
            return
        found = procfs.find(unwatched)
        new = [process for process in found.values() if self._is_new(process)]
        room = _room(len(self._selector.get_map()), len(new))
        for process in new[:room]:
            self._watch(process)
        if room < len(new):
            LOG.error(
                "%d more QEMU processes cannot be watched: too few files may be open "
                "(LimitNOFILE of the agent's systemd unit, or ulimit -n)",
                len(new) - room,
            )
        unseen = unwatched - set(found) - set(self._watched)
        if unseen:
            LOG.warning(
                "%d running instances have no QEMU process here, such as %s",
                *(len(unseen), min(unseen)),
            )

    def _is_new(self, process: QemuProcess) -> bool:
        known = self._watched.get(process.instance_uuid)
        return known is None or known.started < process.started

    def _watch(self, process: QemuProcess) -> None:
        pidfd = procfs.opened(process)
        if pidfd is None:
            return
        self._selector.register(pidfd, selectors.EVENT_READ, process)
        self._watched[process.instance_uuid] = process
        LOG.debug("Watching process %d of instance %s", process.pid, process.instance_uuid)

    def _reach(self) -> None:
        """Tell whether processes can be watched here, if that is new."""
        obstacle = procfs.obstacle()
        if obstacle != self._obstacle:
            self._obstacle = obstacle
            self.observe(
                Reachability(source=SOURCE, reachable=not obstacle, at=_now(), reason=obstacle)
            )

    def _close(self) -> None:
        for pidfd, process in [(key.fd, key.data) for key in self._selector.get_map().values()]:
            if process:
                self._forget(pidfd, process)
        self._selector.close()
        self._bell.close()


def _room(held: int, wanted: int) -> int:
    """Return how many of the wanted files may be opened; raises the limit if that helps.

    :param held: how many are open here already.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if held + wanted + SPARE_FILES > soft and soft < hard:
        LOG.info("Raising the limit of open files from %d to %d", soft, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return max(0, min(wanted, soft - held - SPARE_FILES))


def _now() -> int:
    return time.time_ns() // 1000
