# SPDX-License-Identifier: Apache-2.0
"""Answers the expectation what the agents report: which hosts do, and which instances run."""

from vmmonitor.db import agents, inventories
from vmmonitor.db.session import Database


class ReportingHosts:
    """Implements ``expectation.HostReports`` with the stored reports of the agents."""

    def __init__(self, database: Database):
        """Store the database."""
        self._database = database

    def is_reporting(self, host: str) -> bool:
        """Return whether the agent of a host reports in time.

        :raises vmmonitor.model.errors.Retriable: the database is not available.
        """
        with self._database.reader() as tx:
            return agents.is_reporting(tx, host)

    def is_running(self, host: str, instance_uuid: str) -> bool:
        """Return whether an agent that reaches libvirt reports an instance as running.

        :raises vmmonitor.model.errors.Retriable: the database is not available.
        """
        with self._database.reader() as tx:
            reaches_libvirt = agents.is_reporting(tx, host, is_blind_included=False)
            return reaches_libvirt and inventories.is_running(tx, host, instance_uuid)
