# SPDX-License-Identifier: Apache-2.0
"""SEAM: what an instance should be doing: asked of one before anything is done about its incident
(``judge``), and of all at once to find what no event told of (``survey``).

An expectation is a class named by an entry point in ``vmmonitor.expectation``; ``[engine]
expectation`` names the one in force.
"""

import abc
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

from oslo_config import cfg

from vmmonitor.model.desired import DesiredSnapshot
from vmmonitor.model.event import Event
from vmmonitor.model.incident import Incident, Verdict
from vmmonitor.model.observed import ObservedInstance
from vmmonitor.model.recovery import Recovery


class Expectation(abc.ABC):
    """Knows what instances should be doing.

    :cvar ASKED: who it is, in a time line, where it follows the word asked.
    :cvar QUESTION: what ``judge`` finds out, to follow that.
    """

    ASKED: ClassVar[str] = "the expectation"
    QUESTION: ClassVar[str] = "whether it should run"

    def __init__(self, conf: cfg.ConfigOpts):
        """Keep what is needed; connect to nothing yet.

        :param conf: the service's configuration.
        """
        self.conf = conf

    @abc.abstractmethod
    def judge(self, incident: Incident, events: Sequence[Event]) -> Verdict:
        """Hold an incident against what its instance should be doing.

        Called outside any database transaction, from a recovery worker; may take seconds and
        may be called again for the same incident.

        :param events: the incident's events, oldest first.
        :returns: UNKNOWN with a reason where it cannot be told; never raises for that.
        """

    def is_active(self, recovery: Recovery) -> bool:
        """Tell whether the instance of a recovery, whose driver has done its part, runs again by
        the expectation's own word; for policies that ``wait_for: active``.

        Called as ``judge`` is, now and then until it does or the recovery's time is over. What
        cannot be told now counts as not yet. An expectation that cannot tell at all says no, so
        that such a policy does not work with it; this is the default.
        """
        return False

    def aggregates(self) -> Mapping[str, Collection[str]]:
        """Return the hosts of each host aggregate, by its name; what fails in one of them is
        counted together.

        Called now and then, outside any database transaction, always from the same thread; may
        take seconds. An expectation that knows of none returns none; this is the default.

        :raises vmmonitor.model.errors.VmmonitorError: it cannot be told now; what was told before
            goes on.
        """
        return {}

    def survey(self, since: int | None, sights: Sequence[ObservedInstance]) -> DesiredSnapshot:
        """Say what instances should be doing, for all of them in one go.

        Called by the reconciliation of each engine, once per round, outside any database
        transaction, always from the same thread; may take seconds. It asks in bulk, a number of
        questions that does not grow with the number of instances (pages aside). Whatever is
        being worked on (nova: ``task_state`` is set, or it builds, migrates, resizes, waits for a
        confirmation, is rescued or shelved) is BUSY or STOPPED rather than RUNNING: what is said
        here is held against reality, and no statement is better than a wrong one.

        An expectation that keeps no list says nothing of anything; this is the default.

        :param since: ``until`` of the last survey that was answered; None: there is none yet, or
            the whole is wanted again (about once in an hour, and after an error).
        :param sights: what the agents last told of every instance on every host that can be
            trusted now; for expectations that go by that.
        :returns: with ``since``, at least what changed from then on, deleted instances as GONE;
            what is told twice does no harm, so overlap rather than miss a clock's difference.
        :raises vmmonitor.model.errors.Retriable: it cannot be told now. Nothing is held against
            anything then, this round.
        """
        return DesiredSnapshot(states=(), whole=True)
