# SPDX-License-Identifier: Apache-2.0
"""Calls of recovery drivers, and the storage of their outcomes."""

import threading
import time
from collections.abc import Sequence

from oslo_config import cfg
from oslo_log import log

from vmmonitor.db.session import Database
from vmmonitor.engine.recovery.attempts import Attempts, Claim
from vmmonitor.engine.recovery.drivers import Drivers
from vmmonitor.engine.recovery.leases import LeaseKeeper
from vmmonitor.model.errors import Conflict, Retriable
from vmmonitor.model.event import Event
from vmmonitor.model.recovery import Outcome, RecoveryRequest

LOG = log.getLogger(__name__)


class DriverCalls:
    """Calls drivers for claimed recoveries."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        attempts: Attempts,
        drivers: Drivers,
        leases: LeaseKeeper,
    ):
        """Use these parts; the calls run in the threads of the callers."""
        self._conf = conf
        self._database = database
        self._attempts = attempts
        self._drivers = drivers
        self._leases = leases
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Stop repeating attempts to store an outcome; another engine takes over."""
        self._stopping.set()

    def call(self, claim: Claim, events: Sequence[Event], before_claim: float) -> None:
        """Call the driver of a committed claim, keep its lease, and store the outcome.

        :param events: the incident's events, oldest first.
        :param before_claim: monotonic time before the claim was made.
        :raises vmmonitor.model.errors.Conflict: this process was suspended for so long that the
            lease may have expired.
        """
        recovery = claim.recovery
        if time.monotonic() - before_claim > self._conf.recovery.lease:
            raise Conflict(recovery_id=recovery.recovery_id, lease_owner=recovery.lease_owner)
        with self._leases.hold(claim):
            outcome = self._call_driver(claim, events)
            LOG.info(
                "Recovery %s of instance %s by driver %s: %s, %s",
                recovery.recovery_id,
                recovery.instance_uuid,
                recovery.driver,
                outcome.move,
                outcome.message,
            )
            self._store_outcome(claim, outcome)

    def _call_driver(self, claim: Claim, events: Sequence[Event]) -> Outcome:
        recovery = claim.recovery
        if claim.dry_run:
            message = f"dry run: driver {recovery.driver} would have been called"
            return Outcome(move="skip", message=message)
        request = RecoveryRequest(
            recovery=recovery,
            incident=claim.incident,
            events=events,
            taken_over=claim.taken_over,
            timeout=claim.step.timeout,
            options=claim.step.options,
        )
        LOG.debug(
            "Recovery %s of instance %s: driver %s is called",
            recovery.recovery_id,
            recovery.instance_uuid,
            recovery.driver,
        )
        try:
            outcome = self._drivers.get(recovery.driver).recover(request)
            if not isinstance(outcome, Outcome):
                raise TypeError(f"the driver returned {outcome!r:.100}, which is not an Outcome")
            return outcome
        except Exception as error:
            LOG.exception(
                "Driver %s raised during recovery %s of instance %s",
                recovery.driver,
                recovery.recovery_id,
                recovery.instance_uuid,
            )
            return Outcome(move="fail", message=f"{type(error).__name__}: {error}", retry=True)

    def _store_outcome(self, claim: Claim, outcome: Outcome) -> None:
        """Store the outcome, and repeat while the database is away, until the engine stops."""
        while True:
            try:
                self._database.run(self._attempts.finish, claim, outcome)
                return
            except Retriable as error:
                LOG.warning(
                    "Outcome of recovery %s is not stored yet: %s",
                    claim.recovery.recovery_id,
                    error,
                )
                if self._stopping.wait(self._conf.recovery.poll_interval):
                    return
