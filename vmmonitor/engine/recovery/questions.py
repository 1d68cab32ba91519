# SPDX-License-Identifier: Apache-2.0
"""Asks the expectation, and waits for its answer only so long.

An expectation that hangs (a nova that takes a question and never answers) must not keep the
workers, who have recoveries to go on with. Each question has a thread of its own, "expectation",
which is left behind when the time is over. There are no more of them than two for each worker:
when so many hang, further questions are not asked.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from oslo_config import cfg

from vmmonitor.expectation import Expectation
from vmmonitor.model.errors import Retriable
from vmmonitor.model.event import Event
from vmmonitor.model.incident import Incident, Verdict, VerdictKind
from vmmonitor.model.recovery import Recovery

LOG = logging.getLogger(__name__)

#: Questions under way for each worker, at most: as many that hang as it has others.
EACH = 2

Answer = TypeVar("Answer")


class Questions:
    """What the workers ask of an expectation."""

    def __init__(self, conf: cfg.ConfigOpts, expectation: Expectation):
        """Keep the parts; ask nothing yet."""
        self._timeout = conf.recovery.verdict_timeout
        self._most = EACH * conf.recovery.workers
        self._expectation = expectation
        self._room = threading.Semaphore(self._most)

    def verdict(self, incident: Incident, events: Sequence[Event]) -> Verdict:
        """Return the expectation's verdict; UNKNOWN if there is none in time, or an error.

        :param events: the incident's events, oldest first.
        """
        try:
            return self._ask(lambda: self._expectation.judge(incident, events))
        except Retriable as error:
            LOG.warning("No verdict on incident %s: %s", incident.incident_id, error)
            return Verdict(kind=VerdictKind.UNKNOWN, reason=str(error))
        except Exception as error:
            LOG.exception("The expectation failed on incident %s", incident.incident_id)
            return Verdict(kind=VerdictKind.UNKNOWN, reason=f"{type(error).__name__}: {error}")

    def is_active(self, recovery: Recovery) -> bool:
        """Tell whether the expectation says that a recovery's instance runs again; what it cannot
        tell counts as not yet."""
        try:
            return self._ask(lambda: self._expectation.is_active(recovery))
        except Retriable as error:
            LOG.warning("Recovery %s waits on: %s", recovery.recovery_id, error)
        except Exception:
            LOG.exception("The expectation failed on recovery %s", recovery.recovery_id)
        return False

    def _ask(self, ask: Callable[[], Answer]) -> Answer:
        """Return the answer.

        :raises vmmonitor.model.errors.Retriable: there is none in time.
        """
        if not self._room.acquire(blocking=False):
            raise Retriable(f"the expectation has not answered {self._most} earlier questions")
        question = _Question(ask, self._room.release)
        question.start()
        return question.answer(self._timeout)


class _Question(threading.Thread, Generic[Answer]):
    """One question, in its own thread."""

    def __init__(self, ask: Callable[[], Answer], over: Callable[[], None]):
        super().__init__(name="expectation", daemon=True)
        self._ask = ask
        self._over = over
        self._answers: list[Answer] = []
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            self._answers.append(self._ask())
        except Exception as error:
            self._error = error
        finally:
            self._over()

    def answer(self, timeout: float) -> Answer:
        self.join(timeout)
        if self._error:
            raise self._error
        if not self._answers:
            raise Retriable(f"the expectation did not answer within {timeout:g} s")
        return self._answers[0]
