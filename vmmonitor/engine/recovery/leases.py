# SPDX-License-Identifier: Apache-2.0
"""Leases of the recoveries whose drivers this engine is calling."""

import contextlib
import threading
import time
from collections.abc import Iterator

from oslo_config import cfg
from oslo_log import log

from vmmonitor.db import recoveries
from vmmonitor.db.session import Database
from vmmonitor.engine.recovery.attempts import Claim
from vmmonitor.engine.recovery.workers import Workers
from vmmonitor.model.clock import SECOND
from vmmonitor.model.errors import Retriable
from vmmonitor.model.recovery import Recovery

LOG = log.getLogger(__name__)

#: Time, in seconds, that the lease of a running driver is renewed beyond the timeout of its step.
GRACE = 10.0


class LeaseKeeper:
    """Renews the leases of the calls in progress, until each call has returned or is overdue."""

    def __init__(self, conf: cfg.ConfigOpts, database: Database, workers: Workers):
        """Prepare the thread without starting it.

        :param workers: releases the incident of an overdue call.
        """
        self._conf = conf
        self._database = database
        self._workers = workers
        #: Lease owner -> (claim, monotonic time until which it is renewed).
        self._calls: dict[str, tuple[Claim, float]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recovery-leases", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Stop renewing.

        :param timeout: maximum time to wait for the thread, in seconds.
        """
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    @contextlib.contextmanager
    def hold(self, claim: Claim) -> Iterator[None]:
        """Renew the lease of a claim while its driver is called."""
        owner = claim.recovery.lease_owner
        self._calls[owner] = (claim, time.monotonic() + claim.step.timeout + GRACE)
        try:
            yield
        finally:
            self._calls.pop(owner, None)

    def _run(self) -> None:
        while not self._stopping.wait(self._conf.recovery.lease / 3):
            for owner, (claim, until) in list(self._calls.items()):
                recovery_id = claim.recovery.recovery_id
                try:
                    if time.monotonic() < until:
                        self._renew(claim.recovery)
                    elif self._calls.pop(owner, None):
                        self._abandon(claim)
                except Retriable as error:
                    LOG.warning("Could not renew lease of recovery %s: %s", recovery_id, error)
                except Exception:
                    LOG.exception("Could not renew lease of recovery %s", recovery_id)

    def _renew(self, recovery: Recovery) -> None:
        lease_until = self._database.now() + round(self._conf.recovery.lease * SECOND)
        owner, recovery_ids = recovery.lease_owner, [recovery.recovery_id]
        self._database.run(recoveries.renew_leases, owner, recovery_ids, lease_until)

    def _abandon(self, claim: Claim) -> None:
        """Let any engine, this one included, take over the recovery when its lease expires."""
        LOG.error(
            "Driver %s does not return from recovery %s; it will be taken over",
            claim.recovery.driver,
            claim.recovery.recovery_id,
        )
        self._workers.release(claim.incident.incident_id)
