# SPDX-License-Identifier: Apache-2.0
"""Finds recovery drivers and expectations by their entry points."""

from oslo_config import cfg
from oslo_log import log

from vmmonitor import plugins
from vmmonitor.drivers import Driver, HostAgents
from vmmonitor.expectation import Expectation
from vmmonitor.model.errors import InvalidRules
from vmmonitor.rules import policies
from vmmonitor.rules.policies import Policies, PolicyStep

LOG = log.getLogger(__name__)

#: Drivers that do not recover a server through nova or another service.
NOT_THROUGH_NOVA = frozenset({"libvirt", "log"})


class Drivers:
    """The recovery drivers that the policies name, each built once."""

    def __init__(self, conf: cfg.ConfigOpts, agents: HostAgents):
        """Build none yet."""
        self._conf = conf
        self._agents = agents
        self._built: dict[str, Driver] = {}

    def get(self, name: str) -> Driver:
        """Return a driver.

        :raises vmmonitor.plugins.NotInstalled: there is none of this name.
        """
        if name not in self._built:
            driver_class = plugins.load("vmmonitor.drivers", name)
            self._built[name] = driver_class(self._conf, self._agents)
        return self._built[name]

    def load_policies(self, path: str) -> Policies:
        """Read a file of policies, and build every driver that it names.

        :raises vmmonitor.model.errors.InvalidRules: the file is broken, or names a driver that
            is not installed, cannot be built, or does not know what its step's options say.
        """
        return policies.load(path, self._check)

    def _check(self, step: PolicyStep) -> None:
        try:
            self.get(step.driver).check_options(step.options)
        except InvalidRules:
            raise
        except Exception as error:
            # Includes errors of third-party drivers when they are built: at a reload, the policies
            # in force must stay in force.
            raise InvalidRules(str(error)) from error


def expectation(conf: cfg.ConfigOpts) -> Expectation:
    """Return the expectation that ``[engine] expectation`` names.

    :raises vmmonitor.plugins.NotInstalled: there is none of this name.
    """
    return plugins.load("vmmonitor.expectation", conf.engine.expectation)(conf)


def warn_if_nothing_recovers(conf: cfg.ConfigOpts, loaded: Policies) -> None:
    """Log a warning if nova is the expectation and the policies cannot recover through it.

    The default policies are such: they were written for a host without OpenStack.
    """
    used = {step.driver for row in loaded.rows for step in row.value.steps if step.enabled}
    if conf.engine.expectation != "nova" or used - NOT_THROUGH_NOVA:
        return
    LOG.warning(
        "No policy of %s uses a driver that recovers instances through nova: [engine] expectation "
        "is nova, and the drivers in use are: %s. Instances are recovered only on hosts with "
        "[agent] allow_recovery = true. 'vmmonitor-manage policy sample openstack' prints "
        "policies that use nova",
        loaded.path,
        ", ".join(sorted(used)) or "none",
    )
