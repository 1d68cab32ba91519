# SPDX-License-Identifier: Apache-2.0
"""Answers the expectation which hosts have an agent that reports."""

from vmmonitor.db import agents
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
