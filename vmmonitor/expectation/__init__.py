# SPDX-License-Identifier: Apache-2.0
"""SEAM: the desired state of instances.

The engine asks the expectation about one instance before it acts on an incident (``judge``), and
about all instances at once to find differences that no event reported (``survey``).

An expectation is a class that an entry point in ``vmmonitor.expectation`` refers to;
``[engine] expectation`` names the entry point to use.
"""

import abc
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar, Protocol

from oslo_config import cfg

from vmmonitor.model.desired import DesiredSnapshot
from vmmonitor.model.event import Event
from vmmonitor.model.incident import Incident, Verdict
from vmmonitor.model.observed import ObservedInstance
from vmmonitor.model.recovery import Recovery


class HostReports(Protocol):
    """Has the stored reports of the agents."""

    def is_reporting(self, host: str) -> bool:
        """Return whether the agent of a host reports in time.

        :raises vmmonitor.model.errors.Retriable: that is not known now.
        """

    def is_running(self, host: str, instance_uuid: str) -> bool:
        """Return whether an agent that reaches libvirt reports an instance as running.

        :raises vmmonitor.model.errors.Retriable: that is not known now.
        """


class Expectation(abc.ABC):
    """Provides the desired state of instances.

    :cvar ASKED: the expectation's name in a timeline, after the word "asked".
    :cvar QUESTION: the question that ``judge`` answers, after that name.
    :cvar NAMES_HOST: whether ``locate`` names the host of an instance.
    """

    ASKED: ClassVar[str] = "the expectation"
    QUESTION: ClassVar[str] = "whether it should run"
    NAMES_HOST: ClassVar[bool] = False

    def __init__(self, conf: cfg.ConfigOpts):
        """Store the configuration; do not connect yet.

        :param conf: configuration of the service.
        """
        self.conf = conf
        self._host_reports: HostReports | None = None

    def use_host_reports(self, host_reports: HostReports) -> None:
        """Set the source of the hosts with an agent; the engine calls it at its start."""
        self._host_reports = host_reports

    def is_reporting(self, host: str) -> bool:
        """Return whether a host has an agent that reports; True if no source is set.

        :raises vmmonitor.model.errors.Retriable: that is not known now.
        """
        return self._host_reports is None or self._host_reports.is_reporting(host)

    def is_running(self, host: str, instance_uuid: str) -> bool:
        """Return whether a host reports an instance as running; False if no source is set.

        :raises vmmonitor.model.errors.Retriable: that is not known now.
        """
        reports = self._host_reports
        return reports is not None and reports.is_running(host, instance_uuid)

    @abc.abstractmethod
    def judge(self, incident: Incident, events: Sequence[Event]) -> Verdict:
        """Compare an incident with the desired state of its instance.

        Called outside of database transactions by a recovery worker. May take seconds, and may be
        called again for the same incident.

        :param events: events of the incident, oldest first.
        :returns: UNKNOWN with a reason, instead of an exception, if there is no answer now.
        """

    def locate(self, instance_uuid: str) -> str:
        """Return the host of an instance; empty if it is unknown, or while the instance moves.

        Called by one thread, outside of database transactions, for an instance that two hosts
        report; may take seconds. The default, for an expectation without that knowledge, is
        empty.

        :raises vmmonitor.model.errors.Retriable: there is no answer now.
        """
        return ""

    def is_active(self, recovery: Recovery) -> bool:
        """Return whether the instance of a recovery runs again according to the expectation.

        Used by policies with ``wait_for: active``, after the driver has returned. Called like
        ``judge``, repeatedly until it returns True or the recovery's time is over. False also
        stands for an unknown state. The default, for an expectation without access to the
        state, is False: such policies then do not work.
        """
        return False

    def aggregates(self) -> Mapping[str, Collection[str]]:
        """Return the hosts of each host aggregate, by its name.

        Failures within one aggregate are counted together. Called periodically by one thread,
        outside of database transactions; may take seconds. The default is an empty mapping.

        :raises vmmonitor.model.errors.VmmonitorError: the aggregates are not available now; the
            previous answer stays valid.
        """
        return {}

    def survey(self, since: int | None, observed: Sequence[ObservedInstance]) -> DesiredSnapshot:
        """Return the desired state of all instances.

        Called by the reconciliation of each engine once per round, by one thread, outside of
        database transactions; may take seconds. The number of requests must not grow with the
        number of instances, apart from pages. The state of an instance with an operation in
        progress (nova: ``task_state`` is set, or the server is being built, migrated, resized,
        rescued or shelved, or waits for a confirmation) is BUSY or STOPPED, never RUNNING: the
        state is compared with the observed state, and no statement is better than a wrong one.

        The default, for an expectation without a list of instances, makes no statement.

        :param since: ``until`` of the last answered survey; None for a complete survey, which is
            requested first, about once per hour, and after an error.
        :param observed: newest report of every instance from the hosts with a trusted inventory.
        :returns: with ``since``, at least the instances that changed since then, deleted ones as
            GONE. Repeated statements do no harm, so overlap to allow for clock differences.
        :raises vmmonitor.model.errors.Retriable: the state is not available now; this round
            compares nothing.
        """
        return DesiredSnapshot(states=(), whole=True)
