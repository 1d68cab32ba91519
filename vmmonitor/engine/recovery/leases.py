# SPDX-License-Identifier: Apache-2.0
"""Leases of the recoveries whose drivers this engine is calling."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from oslo_config import cfg
from oslo_log import log

from vmmonitor.db import recoveries
from vmmonitor.db.recoveries import LeaseKey
from vmmonitor.db.session import Database
from vmmonitor.engine.recovery.claims import Claim
from vmmonitor.engine.recovery.workers import Workers
from vmmonitor.model.clock import SECOND
from vmmonitor.model.errors import Retriable

LOG = log.getLogger(__name__)

#: Time, in seconds, that the lease of a running driver is renewed beyond the timeout of its step.
GRACE = 10.0


def boot_time() -> float:
    """Return the seconds since the host booted, the time of a suspended host included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class CallLease:
    """The lease of one call of a driver (``model.recovery.Lease``)."""

    def __init__(
        self, claim: Claim, now: Callable[[], int], lasts_until: float, renew_until: float
    ):
        """Start with the lease of the claim.

        :param now: returns the engines' common clock, in microseconds since the epoch.
        :param lasts_until: when the claim's lease expires at the latest, by ``boot_time``.
        :param renew_until: when the driver is overdue, by ``time.monotonic``.
        """
        self.claim = claim
        self.renew_until = renew_until
        #: The driver does not need the lease any longer.
        self.has_returned = False
        self._now = now
        self._expires_at = claim.recovery.lease_until
        self._lasts_until = lasts_until
        self._is_lost = False

    @property
    def key(self) -> LeaseKey:
        """The identity of the claim."""
        return self.claim.recovery.recovery_id, self.claim.recovery.token

    def is_held(self) -> bool:
        """Return whether the driver may act now.

        Both clocks must agree: the engines' clock continues while this process is suspended, and
        the other one does not depend on the database.
        """
        if self._is_lost or self._now() >= self._expires_at:
            return False
        # The engines' clock may have waited for the database.
        return boot_time() < self._lasts_until and not self._is_lost

    def expires_at(self) -> int:
        """Return when the lease ends if it is not renewed: engines' clock, microseconds."""
        return self._expires_at

    def extend(self, expires_at: int, lasts_until: float) -> None:
        """Note that the lease was renewed."""
        self._expires_at, self._lasts_until = expires_at, lasts_until

    def lose(self) -> None:
        """Note that the recovery belongs to another claim, or has ended."""
        self._is_lost = True


class LeaseKeeper:
    """Renews the leases of the calls in progress, until each call has returned or is overdue."""

    def __init__(self, conf: cfg.ConfigOpts, database: Database, workers: Workers, owner: str):
        """Prepare the thread without starting it.

        :param workers: releases the incident of an overdue call.
        :param owner: the name of this process as an owner of leases.
        """
        self._conf = conf
        self._database = database
        self._workers = workers
        self._owner = owner
        self._leases: dict[LeaseKey, CallLease] = {}
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
    def hold(self, claim: Claim, since: float) -> Iterator[CallLease]:
        """Renew the lease of a claim while its driver is called.

        :param since: a time before the claim was made, by ``boot_time``.
        """
        lasts_until = since + self._conf.recovery.lease
        renew_until = time.monotonic() + claim.step.timeout + GRACE
        lease = CallLease(claim, self._database.now, lasts_until, renew_until)
        self._leases[lease.key] = lease
        try:
            yield lease
        finally:
            self._leases.pop(lease.key, None)

    def _run(self) -> None:
        while not self._stopping.wait(self._conf.recovery.lease / 3):
            try:
                self.renew()
            except Retriable as error:
                LOG.warning("Could not renew the leases of recoveries: %s", error)
            except Exception:
                LOG.exception("Could not renew the leases of recoveries")

    def renew(self) -> None:
        """Renew all leases in one statement, and give up those of overdue calls.

        :raises vmmonitor.model.errors.Retriable: the database is not available.
        """
        leases = dict(self._leases)
        for key, lease in list(leases.items()):
            if time.monotonic() >= lease.renew_until:
                del leases[key]
                if self._leases.pop(key, None):
                    self._abandon(lease.claim)
        if not leases:
            return
        duration = self._conf.recovery.lease
        since, lease_until = boot_time(), self._database.now() + round(duration * SECOND)
        held = self._database.run(recoveries.renew_leases, self._owner, leases, lease_until)
        for key, lease in leases.items():
            if key in held:
                lease.extend(lease_until, since + duration)
            else:
                lease.lose()
                self._leases.pop(key, None)
                if not lease.has_returned:
                    _report_loss(lease.claim)

    def _abandon(self, claim: Claim) -> None:
        """Let any engine, this one included, take over the recovery when its lease expires."""
        LOG.error(
            "Driver %s does not return from recovery %s; it will be taken over",
            claim.recovery.driver,
            claim.recovery.recovery_id,
        )
        self._workers.release(claim.incident.incident_id)


def _report_loss(claim: Claim) -> None:
    LOG.warning(
        "Lease of recovery %s is lost, another claim took it over: driver %s gives no further "
        "order",
        claim.recovery.recovery_id,
        claim.recovery.driver,
    )
