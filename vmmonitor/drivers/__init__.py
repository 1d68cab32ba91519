# SPDX-License-Identifier: Apache-2.0
"""SEAM OUT: how an instance is brought back.

A driver is a class named by an entry point in ``vmmonitor.recovery``; the steps of
``recovery_policies.yaml`` name the ones to use.
"""

import abc
from collections.abc import Mapping
from typing import Any, Protocol

from oslo_config import cfg

from vmmonitor.model.errors import InvalidRules
from vmmonitor.model.recovery import Outcome, RecoveryRequest


class AskAgent(Protocol):
    """Asks the agent of a host to bring an instance back (``AgentAPI.recover_instance``)."""

    def __call__(
        self, host: str, instance_uuid: str, recovery_id: str, timeout: float, cause: str = ""
    ) -> Mapping[str, Any]:
        """Return its answer.

        :param timeout: seconds that the agent may take.
        :param cause: the newest failure of the incident.
        :raises vmmonitor.model.errors.Retriable: no answer came.
        """


class Driver(abc.ABC):
    """Knows one way to bring an instance back, or to have somebody else do it."""

    def __init__(self, conf: cfg.ConfigOpts, ask_agent: AskAgent):
        """Keep what is needed; connect to nothing yet.

        :param conf: the service's configuration.
        :param ask_agent: for drivers that act through the agent on the instance's host.
        """
        self.conf = conf
        self.ask_agent = ask_agent

    @classmethod
    def check_options(cls, options: Mapping[str, Any]) -> None:
        """Refuse what the ``options`` of a policy's step say, if they make no sense.

        Asked whenever policies are loaded, and by ``vmmonitor-manage policy check``, without a
        driver being built. A driver that knows no options refuses any: the default.

        :param options: values as YAML has them: text, numbers, booleans, None, lists, mappings.
        :raises vmmonitor.model.errors.InvalidRules: one does not; its name is the fact ``option``.
        """
        for name in options:
            raise InvalidRules("this driver has no such option", option=name)

    def check(self) -> str:
        """Tell what would keep this driver from working now; empty if nothing would.

        Asked by operators (``vmmonitor-manage driver check``), from any thread; may take seconds
        and changes nothing. A driver that needs nobody else has nothing to say: the default.
        """
        return ""

    @abc.abstractmethod
    def recover(self, request: RecoveryRequest) -> Outcome:
        """Do it, once, within ``request.timeout`` seconds, and tell what came of it.

        The recovery is already claimed and committed. The same request may come again, with
        ``taken_over`` set, after an engine died: a driver must then find out what was already
        done. An ordinary failure is an Outcome; whatever is raised counts as a failure that may
        be tried again.
        """
