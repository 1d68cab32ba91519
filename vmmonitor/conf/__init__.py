# SPDX-License-Identifier: Apache-2.0
"""Every option of vmmonitor, one module per group.

Nothing here is global: each process builds one ``ConfigOpts`` (in ``cmd/`` or ``wsgi/``) and
passes it down.
"""

from oslo_config import cfg
from oslo_log import log

from vmmonitor.conf import (
    agent,
    api,
    base,
    engine,
    evidence,
    forwarder,
    housekeeping,
    libvirt,
    limits,
    liveness,
    masakari,
    mistral,
    notifications,
    nova,
    nova_notifications,
    reconcile,
    recovery,
    spool,
    storm,
    webhook,
)

MODULES = (
    *(base, agent, libvirt, liveness, spool, forwarder, evidence),
    *(engine, nova, nova_notifications, reconcile),
    *(recovery, limits, storm, masakari, mistral, webhook),
    *(notifications, housekeeping, api),
)


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register every option of every group on ``conf``."""
    for module in MODULES:
        module.register_opts(conf)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return (group, options) pairs, for oslo-config-generator."""
    return [pair for module in MODULES for pair in module.list_opts()]


def set_defaults() -> None:
    """Give the libraries the defaults that suit this service, for the sample file too."""
    log.set_defaults(default_log_levels=[*log.get_default_log_levels(), "alembic=WARN"])


def new(args: list[str], files: list[str] | None = None) -> cfg.ConfigOpts:
    """Build a process's configuration from its command line and files.

    :param args: the command line, without the program's name.
    :param files: configuration files instead of the usual places.
    :raises oslo_config.cfg.Error: an option or a file is wrong.
    """
    from vmmonitor import version

    conf = cfg.ConfigOpts()
    set_defaults()
    log.register_options(conf)
    register_opts(conf)
    conf(
        args,
        project="vmmonitor",
        version=version.version_info.version_string(),
        default_config_files=files,
    )
    return conf
