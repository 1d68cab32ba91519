# SPDX-License-Identifier: Apache-2.0
"""Threads for calls into libvirt that may never return, each with its own connection."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable

import libvirt
from oslo_log import log

LOG = log.getLogger(__name__)

#: Maximum number of threads. A stuck thread also occupies one of libvirtd's workers (20 by
#: default).
MAX_WORKERS = 6
#: Maximum duration, in seconds, of a call. A thread with a longer call counts as stuck, and
#: another one takes over.
STUCK_AFTER = 1.0
#: Maximum wait, in seconds, of ``stop`` for threads that are not stuck.
WORKERS_STOP_TIMEOUT = 1.0


class DomainCache:
    """A connection, and the domains that were looked up through it."""

    #: Maximum number of domains, ended ones included.
    MAX_DOMAINS = 2000

    def __init__(self, connection: libvirt.virConnect):
        """Start without any domain."""
        self.connection = connection
        self._domains: dict[str, libvirt.virDomain] = {}

    def get(self, uuid: str) -> libvirt.virDomain:
        """Return a domain.

        :raises libvirt.libvirtError: it does not exist, or libvirt is not reachable.
        """
        if uuid not in self._domains:
            if len(self._domains) >= self.MAX_DOMAINS:
                self._domains.clear()
            self._domains[uuid] = self.connection.lookupByUUIDString(uuid)
        return self._domains[uuid]


ProbeJob = Callable[[DomainCache], None]


class ProbeWorker:
    """One thread with its own connection, so that it blocks no other."""

    def __init__(self, pool: "ProbePool", number: int):
        """Create the thread; do not start it."""
        self._pool = pool
        self._domains: DomainCache | None = None
        #: Start of the current job; None while there is none.
        self.busy_since: float | None = None
        self.thread = threading.Thread(
            target=self._run, name=f"liveness-probe-{number}", daemon=True
        )

    def _run(self) -> None:
        while (item := self._pool.jobs.get()) is not None:
            uuid, job = item
            self.busy_since = time.monotonic()
            try:
                self._do(job)
            except libvirt.libvirtError as error:
                LOG.debug("Could not probe instance %s: %s", uuid, error)
                self._close_lost_connection()
            except Exception:
                # A bug must not leave the host unmonitored.
                LOG.exception("Probing instance %s failed", uuid)
            finally:
                self.busy_since = None
                self._pool.finish(uuid)
        self._close()

    def _do(self, job: ProbeJob) -> None:
        if self._domains is None:
            self._domains = DomainCache(self._pool.connect())
        job(self._domains)

    def _close_lost_connection(self) -> None:
        with contextlib.suppress(libvirt.libvirtError):
            if self._domains is not None and self._domains.connection.isAlive():
                return
        self._close()

    def _close(self) -> None:
        domains, self._domains = self._domains, None
        if domains is not None:
            with contextlib.suppress(libvirt.libvirtError):
                domains.connection.close()


class ProbePool:
    """Runs jobs, one at a time for each instance; a stuck job blocks only its own thread."""

    def __init__(self, connect: Callable[[], libvirt.virConnect]):
        """Start no thread.

        :param connect: opens a connection; called in the thread that uses it.
        """
        self.connect = connect
        self.jobs: queue.SimpleQueue[tuple[str, ProbeJob] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._pending: set[str] = set()
        self._workers: list[ProbeWorker] = []
        self._exhausted = False

    def submit(self, uuid: str, job: ProbeJob) -> bool:
        """Queue a job; return False if the last job of this instance is not done."""
        with self._lock:
            if uuid in self._pending:
                return False
            self._pending.add(uuid)
        self.jobs.put((uuid, job))
        if not self._workers:
            self._add_worker()
        return True

    def finish(self, uuid: str) -> None:
        """Accept the next job of this instance; called by the worker."""
        with self._lock:
            self._pending.discard(uuid)

    def add_worker_if_stuck(self) -> bool:
        """Start another thread if all are stuck; return whether to call again in a moment."""
        if self.jobs.empty():
            return False
        stuck_since = time.monotonic() - STUCK_AFTER
        # Read once: a worker may finish its job in the meantime.
        since = [worker.busy_since for worker in self._workers]
        stuck = [at is not None and at < stuck_since for at in since]
        if all(stuck) and len(stuck) < MAX_WORKERS:
            self._add_worker()
        exhausted = all(stuck) and len(stuck) == MAX_WORKERS
        if exhausted and not self._exhausted:
            LOG.warning(
                "%d instances do not answer; no other instance is probed until one of them does",
                MAX_WORKERS,
            )
        self._exhausted = exhausted
        return not exhausted

    def stop(self) -> None:
        """End the threads that are not stuck; the others end when their call returns."""
        for _ in self._workers:
            self.jobs.put(None)
        until = time.monotonic() + WORKERS_STOP_TIMEOUT
        for worker in self._workers:
            worker.thread.join(max(0.0, until - time.monotonic()))

    def _add_worker(self) -> None:
        worker = ProbeWorker(self, len(self._workers))
        self._workers.append(worker)
        worker.thread.start()
