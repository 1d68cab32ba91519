# SPDX-License-Identifier: Apache-2.0
"""Where the rule files are that are in force."""

from oslo_config import cfg

from vmmonitor.rules import defaults


def filter_file(conf: cfg.ConfigOpts) -> str:
    """Return the path of the filter file that is in force."""
    return _in_force(conf, conf.agent.filter_file, defaults.EVENT_FILTERS)


def engine_filter_file(conf: cfg.ConfigOpts) -> str:
    """Return the path of the filter file that is in force in an engine."""
    return _in_force(
        conf, conf.engine.filter_file or conf.agent.filter_file, defaults.EVENT_FILTERS
    )


def policy_file(conf: cfg.ConfigOpts) -> str:
    """Return the path of the file of recovery policies that is in force."""
    return _in_force(conf, conf.recovery.policy_file, defaults.RECOVERY_POLICIES)


def _in_force(conf: cfg.ConfigOpts, configured: str, name: str) -> str:
    return configured or conf.find_file(name) or defaults.path(name)
