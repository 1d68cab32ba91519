# SPDX-License-Identifier: Apache-2.0
"""Requests verdicts from the expectation, with a time limit.

A nova that accepts a query and never answers must not block the worker threads, which have other
recoveries to continue. Each query therefore runs in its own thread, "expectation", and the number
of these threads is limited.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from oslo_config import cfg

from vmmonitor.bounded_call import BoundedCalls, CallTimeout, TooManyCalls
from vmmonitor.engine.incidents import timeline
from vmmonitor.engine.reconcile import verdict as reconcile_verdict
from vmmonitor.engine.recovery.other_hosts import OtherHosts
from vmmonitor.expectation import Expectation
from vmmonitor.model.errors import Retriable
from vmmonitor.model.event import Event
from vmmonitor.model.incident import Incident, Verdict, VerdictKind
from vmmonitor.model.recovery import Recovery

LOG = logging.getLogger(__name__)

#: Maximum number of queries in progress for each worker: one that hangs and one that is current.
QUERIES_PER_WORKER = 2

Answer = TypeVar("Answer")


class Verdicts:
    """The verdicts on incidents, and the state of instances that a recovery waits for."""

    def __init__(
        self, conf: cfg.ConfigOpts, expectation: Expectation, other_hosts: OtherHosts | None = None
    ):
        """Query nothing yet.

        :param other_hosts: examines each verdict that can lead to a recovery; None for none.
        """
        self._other_hosts = other_hosts
        self._timeout = conf.recovery.verdict_timeout
        self._expectation = expectation
        self._calls = BoundedCalls(QUERIES_PER_WORKER * conf.recovery.workers)

    def judge(self, incident: Incident, events: Sequence[Event]) -> Verdict:
        """Return the verdict on an incident; ``unknown`` without an answer in time.

        :param events: nova's earlier operations and the incident's events, oldest first.
        """
        verdict = self._judge(incident, events)
        return self._other_hosts.apply(incident, verdict) if self._other_hosts else verdict

    def _judge(self, incident: Incident, events: Sequence[Event]) -> Verdict:
        if verdict := reconcile_verdict.from_drift(incident):
            return verdict
        started = time.monotonic_ns()
        verdict = self._query_verdict(incident, events)
        duration = (time.monotonic_ns() - started) // 1000
        return timeline.with_query(verdict, self._expectation, duration)

    def _query_verdict(self, incident: Incident, events: Sequence[Event]) -> Verdict:
        try:
            return self._query(lambda: self._expectation.judge(incident, events))
        except Retriable as error:
            LOG.warning("No verdict on incident %s: %s", incident.incident_id, error)
            return Verdict(kind=VerdictKind.UNKNOWN, reason=str(error))
        except Exception as error:
            LOG.exception("The expectation raised on incident %s", incident.incident_id)
            return Verdict(kind=VerdictKind.UNKNOWN, reason=f"{type(error).__name__}: {error}")

    def is_active(self, recovery: Recovery) -> bool:
        """Return whether the expectation reports the instance of a recovery as running.

        Without an answer it counts as not running yet.
        """
        try:
            return self._query(lambda: self._expectation.is_active(recovery))
        except Retriable as error:
            LOG.warning("Recovery %s continues to wait: %s", recovery.recovery_id, error)
        except Exception:
            LOG.exception("The expectation raised on recovery %s", recovery.recovery_id)
        return False

    def _query(self, query: Callable[[], Answer]) -> Answer:
        """Return the answer of the expectation.

        :raises vmmonitor.model.errors.Retriable: there is no answer in time.
        """
        try:
            return self._calls.call("expectation", query, self._timeout)
        except CallTimeout:
            reason = f"the expectation did not answer within {self._timeout:g} s"
            raise Retriable(reason) from None
        except TooManyCalls:
            reason = f"the expectation has not answered {self._calls.limit} earlier queries"
            raise Retriable(reason) from None
