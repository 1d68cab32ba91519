# SPDX-License-Identifier: Apache-2.0
"""Calls of recovery drivers, and the storage of their outcomes."""

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator, Sequence

from oslo_config import cfg
from oslo_log import log

from vmmonitor.db.session import Database
from vmmonitor.engine.recovery.attempts import Attempts
from vmmonitor.engine.recovery.claims import Claim
from vmmonitor.engine.recovery.drivers import Drivers
from vmmonitor.engine.recovery.leases import CallLease, LeaseKeeper
from vmmonitor.model.errors import Conflict, Retriable
from vmmonitor.model.event import Event
from vmmonitor.model.recovery import Outcome, Recovery, RecoveryRequest

LOG = log.getLogger(__name__)

#: Maximum length of the message of an outcome, in bytes.
MAX_MESSAGE_BYTES = 4096


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
        #: Recovery id -> what the database has not stored: a claim and its outcome.
        self._pending: dict[str, tuple[Claim, Outcome]] = {}

    def stop(self) -> None:
        """Stop repeating attempts to store an outcome; another engine takes over."""
        self._stopping.set()

    def call(self, claim: Claim, events: Sequence[Event], since: float) -> None:
        """Call the driver of a committed claim, keep its lease, and store the outcome.

        :param events: the incident's events, oldest first.
        :param since: a time before the claim was made, by ``leases.boot_time``.
        :raises vmmonitor.model.errors.Conflict: this process was suspended for so long that the
            lease may have expired, or another engine took over.
        """
        recovery = claim.recovery
        with self._leases.hold(claim, since) as lease:
            if not lease.is_held():
                raise Conflict(recovery_id=recovery.recovery_id, lease_owner=recovery.lease_owner)
            outcome = _cut_message(self._call_driver(claim, events, lease))
            lease.has_returned = True
            LOG.info(
                "Recovery %s of instance %s by driver %s: %s, %s",
                recovery.recovery_id,
                recovery.instance_uuid,
                recovery.driver,
                outcome.move,
                outcome.message,
            )
            self._store_outcome(claim, outcome, lease.is_held)

    def _call_driver(self, claim: Claim, events: Sequence[Event], lease: CallLease) -> Outcome:
        recovery = claim.recovery
        if claim.dry_run:
            message = f"dry run: driver {recovery.driver} would have been called"
            return Outcome(move="skip", message=message)
        request = RecoveryRequest(
            recovery=recovery,
            incident=claim.incident,
            events=events,
            taken_over=claim.taken_over,
            lease=lease,
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
            message = f"{type(error).__name__}: {error}"
            return Outcome(move="fail", message=message, retry=True, answered=False)

    # -- outcomes ------------------------------------------------------------------------------
    def has_pending_outcome(self, recovery: Recovery) -> bool:
        """Return whether the database has not stored the outcome of a call of this engine."""
        return recovery.recovery_id in self._pending

    def store_pending_outcome(self, recovery: Recovery) -> bool:
        """Store the outcome of a running recovery whose driver has returned in this engine.

        :returns: False if there is none, so that the recovery must be taken over.
        :raises vmmonitor.model.errors.Conflict: another engine took it over.
        """
        pending = self._pending.get(recovery.recovery_id)
        if pending is None:
            return False
        if pending[0].recovery.token != recovery.token:
            del self._pending[recovery.recovery_id]
            return False
        with self._pending_until_stored(*pending):
            self._store_now(*pending)
        return True

    def _store_outcome(self, claim: Claim, outcome: Outcome, may_wait: Callable[[], bool]) -> None:
        """Store the outcome; repeat it while the lease lasts, until the engine stops.

        Any error may be temporary: a PostgreSQL server that became read-only refuses a statement
        as an invalid one. An outcome that cannot be stored until then stays in memory, so that
        this engine does not call the driver again when it finds the recovery with its expired
        lease.

        :param may_wait: whether this thread may continue to wait.
        """
        recovery_id = claim.recovery.recovery_id
        store = self._store_with_retries
        while True:
            try:
                with self._pending_until_stored(claim, outcome):
                    store(claim, outcome)
                return
            except Conflict:
                raise
            except Retriable as error:
                LOG.warning("Outcome of recovery %s is not stored yet: %s", recovery_id, error)
            except Exception:
                LOG.exception("Outcome of recovery %s is not stored yet", recovery_id)
            if not may_wait() or self._stopping.wait(self._conf.recovery.poll_interval):
                return
            store = self._store_now

    @contextlib.contextmanager
    def _pending_until_stored(self, claim: Claim, outcome: Outcome) -> Iterator[None]:
        """Keep an outcome, unless it is stored or another claim has replaced this one."""
        recovery_id = claim.recovery.recovery_id
        self._pending[recovery_id] = claim, outcome
        try:
            yield
        except Conflict:
            self._pending.pop(recovery_id, None)
            raise
        self._pending.pop(recovery_id, None)

    def _store_with_retries(self, claim: Claim, outcome: Outcome) -> None:
        self._database.run(self._attempts.finish, claim, outcome)

    def _store_now(self, claim: Claim, outcome: Outcome) -> None:
        """Store an outcome without the pauses of ``Database.run``.

        After an outage of the database this engine must be faster than one that takes over.
        """
        with self._database.writer() as tx:
            self._attempts.finish(tx, claim, outcome)


def _cut_message(outcome: Outcome) -> Outcome:
    """Return an outcome with a message that the database and the API can take.

    It may contain text of another service, or of an agent.
    """
    message = str(outcome.message).encode(errors="replace")[:MAX_MESSAGE_BYTES]
    return dataclasses.replace(outcome, message=message.decode(errors="ignore"))
