# SPDX-License-Identifier: Apache-2.0
"""SEAM: what an instance should be doing, asked before anything is done about an incident.

An expectation is a class named by an entry point in ``vmmonitor.expectation``; ``[engine]
expectation`` names the one in force.
"""

import abc
from collections.abc import Sequence

from oslo_config import cfg

from vmmonitor.model.event import Event
from vmmonitor.model.incident import Incident, Verdict


class Expectation(abc.ABC):
    """Knows what instances should be doing."""

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
