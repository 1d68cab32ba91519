# SPDX-License-Identifier: Apache-2.0
"""SEAM OUT: recovery drivers, which bring an instance back or have another system do so.

A driver is a class that an entry point in ``vmmonitor.drivers`` refers to. The steps of
``recovery_policies.yaml`` contain the names of the entry points.
"""

import abc
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from oslo_config import cfg

from vmmonitor.model.errors import InvalidRules
from vmmonitor.model.inspection import Inspection
from vmmonitor.model.order import ProhibitionAnswer, RecoveryOrder, StartProhibition
from vmmonitor.model.recovery import Outcome, RecoveryRequest


class HostAgents(Protocol):
    """Calls the agents of hosts (``engine.recovery.host_agents.RpcHostAgents``)."""

    def recover(self, host: str, order: RecoveryOrder) -> Mapping[str, Any]:
        """Have the agent of a host recover an instance; return its response.

        :raises vmmonitor.model.errors.Retriable: the agent did not respond.
        """

    def inspect(self, host: str, instance_uuid: str, timeout: float) -> Inspection:
        """Return the state of an instance as the agent of a host finds it now.

        :param timeout: maximum time to wait, in seconds.
        :raises vmmonitor.model.errors.Retriable: the agent did not respond.
        :raises vmmonitor.model.errors.InvalidMessage: its response is invalid.
        """

    def prohibit_start(self, host: str, prohibition: StartProhibition) -> ProhibitionAnswer:
        """Have the agent of a host confirm that an instance has ended, and start it no more.

        :raises vmmonitor.model.errors.Retriable: the agent did not respond.
        :raises vmmonitor.model.errors.InvalidMessage: its response is invalid.
        """


class Driver(abc.ABC):
    """Recovers instances in one way.

    The engine builds one object of each driver that its policies refer to, and calls it from
    several threads.
    """

    def __init__(self, conf: cfg.ConfigOpts, agents: HostAgents):
        """Store the arguments; do not connect yet.

        :param conf: configuration of the service.
        :param agents: for drivers that act through the agent on the instance's host.
        """
        self.conf = conf
        self.agents = agents

    @classmethod
    def check_options(cls, options: Mapping[str, Any]) -> None:
        """Check the ``options`` of a policy's step.

        Called when policies are loaded, and by ``vmmonitor-manage policy check`` without an object
        of the driver. The default accepts no options.

        :param options: values of YAML: text, numbers, booleans, None, lists, mappings.
        :raises vmmonitor.model.errors.InvalidRules: an option is invalid; the fact ``option`` is
            its name.
        """
        for name in options:
            raise InvalidRules("this driver has no such option", option=name)

    def check(self) -> str:
        """Return the reason why the driver cannot work now, or '' if it can.

        Called for operators (``vmmonitor-manage driver check``) from any thread. May take seconds
        and must not change anything. The default is for drivers that need no other service.
        """
        return ""

    def find_warnings(self) -> Sequence[str]:
        """Return doubts about the configuration that do not keep the driver from working.

        Called after a successful ``check``, under the same conditions.
        """
        return ()

    @abc.abstractmethod
    def recover(self, request: RecoveryRequest) -> Outcome:
        """Recover an instance once, within ``request.timeout`` seconds, and return the outcome.

        The recovery is already claimed and committed. The engine repeats a request with
        ``taken_over`` set after another engine died during the call: the driver must then find
        out which part is already done. An ordinary failure is an Outcome. An exception counts as a
        failure that may be retried.
        """
