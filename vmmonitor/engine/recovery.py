# SPDX-License-Identifier: Apache-2.0
"""From a hold that is over to an instance that runs: the recovery workers.

What ingest has just opened, without a hold, goes straight to a worker thread. For all else one
thread, "recovery-dispatch", looks: incidents whose hold is over, recoveries that are to be
started, whose engine died, or that waited in vain. A worker claims what it gets in one
transaction, commits, calls out, and writes down what came of it in another. Every engine looks
at everything; the guarded UPDATEs in the database decide who acts.
"""

import concurrent.futures
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from oslo_config import cfg
from oslo_log import log

from vmmonitor.db import events, incidents, recoveries
from vmmonitor.db.session import Database
from vmmonitor.engine.attempts import Attempts, Claim
from vmmonitor.engine.drivers import Drivers
from vmmonitor.engine.incidents import SECOND
from vmmonitor.expectation import Expectation
from vmmonitor.model import incident as verdicts
from vmmonitor.model.errors import Conflict, Retriable
from vmmonitor.model.event import Event
from vmmonitor.model.incident import Incident, Verdict
from vmmonitor.model.recovery import Outcome, Recovery, Request
from vmmonitor.rules.policies import Policies

LOG = log.getLogger(__name__)

#: Seconds beyond its time that a driver may take before its recovery may be taken over.
GRACE = 10.0
#: Incidents that a worker has in hand or before it, at most.
AHEAD = 8


class Recoveries:
    """Finds what is due and does it."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        policies: Policies,
        expectation: Expectation,
        drivers: Drivers,
    ):
        """Keep the parts; start nothing."""
        self._attempts = Attempts(conf, policies, database.now)
        self._conf = conf
        self._database = database
        self._expectation = expectation
        self._drivers = drivers
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._guard = threading.Lock()
        #: Incidents that a worker of this engine has in hand.
        self._busy: set[str] = set()
        #: Something had to be left for a later look.
        self._crowded = False
        #: recovery_id -> (owner of its lease, monotonic time until which it is renewed)
        self._leases: dict[str, tuple[str, float]] = {}
        self._pool = concurrent.futures.ThreadPoolExecutor(
            conf.recovery.workers, thread_name_prefix="recovery"
        )
        self._threads = [
            threading.Thread(target=self._dispatch, name="recovery-dispatch", daemon=True),
            threading.Thread(target=self._renew, name="recovery-leases", daemon=True),
        ]

    def use(self, policies: Policies) -> None:
        """Decide by these policies from now on."""
        self._attempts.policies = policies

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def held(self, held: Sequence[Incident]) -> None:
        """Take up incidents whose hold has just been set: those without one at once."""
        now = self._database.now()
        for incident in held:
            if incident.hold_until <= now:
                self._hand_out(incident.incident_id, self._examine, incident)
            else:
                self._wake.set()

    def stop(self, timeout: float) -> None:
        """Start nothing more and wait for what runs; what does not end is taken over elsewhere.

        :param timeout: seconds.
        """
        self._stopping.set()
        self._wake.set()
        self._threads[0].join(timeout)
        self._pool.shutdown(wait=False)
        deadline = time.monotonic() + timeout
        while self._busy and time.monotonic() < deadline:
            time.sleep(0.05)
        self._threads[1].join(1)

    # -- dispatching ---------------------------------------------------------------------------
    def _dispatch(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                pause = self._look()
            except Retriable as error:
                LOG.warning("Cannot look for work: %s", error)
                pause = self._conf.recovery.poll_interval
            except Exception:
                LOG.exception("Looking for work failed")
                pause = self._conf.recovery.poll_interval
            self._wake.wait(pause)

    def _look(self) -> float:
        """Hand out what is due; returns the seconds until the next look."""
        now = self._database.now()
        limit = self._conf.recovery.workers * AHEAD
        with self._database.reader() as tx:
            due_incidents = incidents.due(tx, now, limit)
            due_recoveries = recoveries.due(tx, now, limit)
            moments = (incidents.next_due(tx), recoveries.next_due(tx))
        for recovery in due_recoveries:
            self._hand_out(recovery.incident_id, self._go_on, recovery)
        for incident in due_incidents:
            self._hand_out(incident.incident_id, self._examine, incident)
        next_due = [(moment - now) / SECOND for moment in moments if moment and moment > now]
        return min([self._conf.recovery.poll_interval, *next_due])

    def _hand_out(self, incident_id: str, work: Callable[[Any], bool], subject: Any) -> None:
        with self._guard:
            self._crowded = len(self._busy) >= self._conf.recovery.workers * AHEAD
            if self._crowded or incident_id in self._busy or self._stopping.is_set():
                return
            self._busy.add(incident_id)
        self._pool.submit(self._do, incident_id, work, subject)

    def _do(self, incident_id: str, work: Callable[[Any], bool], subject: Any) -> None:
        more = False
        try:
            if not self._stopping.is_set():
                more = work(subject)
        except Conflict as error:
            LOG.debug("Another engine was faster with incident %s: %s", incident_id, error)
        except Retriable as error:
            LOG.warning("Incident %s is looked at again later: %s", incident_id, error)
        except Exception:
            LOG.exception("Working on incident %s failed", incident_id)
        with self._guard:
            self._busy.discard(incident_id)
            room = self._crowded and len(self._busy) < self._conf.recovery.workers
        # A look costs as much as examining an incident: none without a reason.
        if more or room:
            self._wake.set()

    # -- a hold is over ------------------------------------------------------------------------
    def _examine(self, incident: Incident) -> bool:
        """Ask what the instance should be doing, then act on the answer.

        :returns: whether something else may be due now.
        """
        with self._database.reader() as tx:
            told = [stored.event for stored in events.of_incident(tx, incident.incident_id)]
        verdict = self._judge(incident, told)
        claim = self._database.run(self._attempts.decide, incident.incident_id, verdict)
        if claim:
            self._call(claim, told)
        return claim is not None

    def _judge(self, incident: Incident, told: Sequence[Event]) -> Verdict:
        try:
            return self._expectation.judge(incident, told)
        except Exception as error:
            LOG.exception("The expectation failed on incident %s", incident.incident_id)
            return Verdict(word=verdicts.UNKNOWN, reason=f"{type(error).__name__}: {error}")

    # -- a recovery is due ---------------------------------------------------------------------
    def _go_on(self, recovery: Recovery) -> bool:
        claim = self._database.run(self._attempts.take_up, recovery)
        if claim:
            with self._database.reader() as tx:
                told = [stored.event for stored in events.of_incident(tx, recovery.incident_id)]
            self._call(claim, told)
        return True

    # -- calling -------------------------------------------------------------------------------
    def _call(self, claim: Claim, told: Sequence[Event]) -> None:
        """Call the driver; the claim is committed, its lease is renewed meanwhile."""
        recovery = claim.recovery
        until = time.monotonic() + claim.step.timeout + GRACE
        self._leases[recovery.recovery_id] = (recovery.lease_owner, until)
        try:
            outcome = self._outcome(claim, told)
            LOG.info(
                "Recovery %s of instance %s by driver %s: %s, %s",
                *(recovery.recovery_id, recovery.instance_uuid, recovery.driver),
                *(outcome.move, outcome.message),
            )
            self._write_down(claim, outcome)
        finally:
            self._leases.pop(recovery.recovery_id, None)

    def _outcome(self, claim: Claim, told: Sequence[Event]) -> Outcome:
        request = Request(
            recovery=claim.recovery,
            incident=claim.incident,
            events=told,
            taken_over=claim.taken_over,
            timeout=claim.step.timeout,
        )
        LOG.debug(
            "Recovery %s of instance %s: driver %s is called",
            *(claim.recovery.recovery_id, claim.recovery.instance_uuid, claim.recovery.driver),
        )
        try:
            return self._drivers.get(claim.recovery.driver).recover(request)
        except Exception as error:
            LOG.exception("Driver %s failed", claim.recovery.driver)
            return Outcome(move="fail", message=f"{type(error).__name__}: {error}", retry=True)

    def _write_down(self, claim: Claim, outcome: Outcome) -> None:
        """Store the outcome, as soon as the database takes it, or another engine has it all."""
        while True:
            try:
                self._database.run(self._attempts.finish, claim, outcome)
                return
            except Retriable as error:
                LOG.warning("The outcome of %s waits: %s", claim.recovery.recovery_id, error)
                if self._stopping.wait(self._conf.recovery.poll_interval):
                    return

    # -- leases --------------------------------------------------------------------------------
    def _renew(self) -> None:
        while not self._stopping.wait(self._conf.recovery.lease / 3) or self._busy:
            for recovery_id, (owner, until) in list(self._leases.items()):
                if time.monotonic() < until:
                    self._renew_one(recovery_id, owner)

    def _renew_one(self, recovery_id: str, owner: str) -> None:
        lease_until = self._database.now() + round(self._conf.recovery.lease * SECOND)
        try:
            self._database.run(recoveries.renew, owner, [recovery_id], lease_until)
        except Retriable as error:
            LOG.warning("The lease of recovery %s is not renewed: %s", recovery_id, error)
