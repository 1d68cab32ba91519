# SPDX-License-Identifier: Apache-2.0
"""Threads that ask libvirt what may never be answered."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable

import libvirt
from oslo_log import log

LOG = log.getLogger(__name__)

#: Threads, at most. Each that is stuck also keeps one of libvirtd's own (20 as shipped) busy.
SIZE = 6
#: Seconds after which a thread counts as stuck, and another one goes on with the rest.
STUCK = 1.0
#: Seconds for which stop() waits for those that are not.
JOIN_TIMEOUT = 1.0


class DomainCache:
    """A connection, and the domains that were looked up through it."""

    #: Kept at most; those that run no more are among them.
    MOST = 2000

    def __init__(self, connection: libvirt.virConnect):
        """Know none yet."""
        self.connection = connection
        self._known: dict[str, libvirt.virDomain] = {}

    def get(self, uuid: str) -> libvirt.virDomain:
        """Return a domain.

        :raises libvirt.libvirtError: there is none, or libvirt is gone.
        """
        if uuid not in self._known:
            if len(self._known) >= self.MOST:
                self._known.clear()
            self._known[uuid] = self.connection.lookupByUUIDString(uuid)
        return self._known[uuid]


Job = Callable[[DomainCache], None]


class ProbeWorker:
    """One thread with a connection of its own, so that it can block nobody else."""

    def __init__(self, pool: "ProbePool", number: int):
        """Start nothing."""
        self._pool = pool
        self._domains: DomainCache | None = None
        #: Since when it has been at its job; None between two.
        self.busy_since: float | None = None
        self.thread = threading.Thread(
            target=self._run, name=f"liveness-probe-{number}", daemon=True
        )

    def _run(self) -> None:
        while (taken := self._pool.jobs.get()) is not None:
            key, job = taken
            self.busy_since = time.monotonic()
            try:
                self._do(job)
            except libvirt.libvirtError as error:
                LOG.debug("Instance %s cannot be asked: %s", key, error)
                self._close_what_broke()
            except Exception:
                # A bug must not leave the host unwatched.
                LOG.exception("Asking instance %s failed", key)
            finally:
                self.busy_since = None
                self._pool.done(key)
        self._close()

    def _do(self, job: Job) -> None:
        if self._domains is None:
            self._domains = DomainCache(self._pool.connect())
        job(self._domains)

    def _close_what_broke(self) -> None:
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
    """Does jobs, one per instance at a time; a job that is stuck blocks its own thread only."""

    def __init__(self, connect: Callable[[], libvirt.virConnect]):
        """Start nothing.

        :param connect: opens a connection; called in the thread that will use it.
        """
        self.connect = connect
        self.jobs: queue.SimpleQueue[tuple[str, Job] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._pending: set[str] = set()
        self._workers: list[ProbeWorker] = []
        self._full = False

    def submit(self, key: str, job: Job) -> bool:
        """Have a job done; False if the last one of this instance is still not done."""
        with self._lock:
            if key in self._pending:
                return False
            self._pending.add(key)
        self.jobs.put((key, job))
        if not self._workers:
            self._add()
        return True

    def done(self, key: str) -> None:
        """Take the next job of this instance again; called by the worker."""
        with self._lock:
            self._pending.discard(key)

    def tend(self) -> bool:
        """Start another thread if all are stuck; returns whether to call again in a moment."""
        if self.jobs.empty():
            return False
        stuck_since = time.monotonic() - STUCK
        # A worker may end its job between two reads.
        since = [one.busy_since for one in self._workers]
        stuck = [at is not None and at < stuck_since for at in since]
        if all(stuck) and len(stuck) < SIZE:
            self._add()
        if all(stuck) and len(stuck) == SIZE and not self._full:
            LOG.warning(
                "%d instances do not answer; no other one is asked until one of them does", SIZE
            )
        self._full = all(stuck) and len(stuck) == SIZE
        return not self._full

    def stop(self) -> None:
        """End the threads that are not stuck; the others end when libvirt lets them."""
        for _ in self._workers:
            self.jobs.put(None)
        until = time.monotonic() + JOIN_TIMEOUT
        for worker in self._workers:
            worker.thread.join(max(0.0, until - time.monotonic()))

    def _add(self) -> None:
        worker = ProbeWorker(self, len(self._workers))
        self._workers.append(worker)
        worker.thread.start()
