# SPDX-License-Identifier: Apache-2.0
"""The configuration options of vmmonitor, one module per group.

Each module has a ``GROUP`` (an ``OptGroup``, or ``None`` for ``[DEFAULT]``) and ``OPTS``. To add
an option, append it to the ``OPTS`` of its group; to add a group, append its module to
``MODULES``. Nothing here is global: each process builds one ``ConfigOpts`` (in ``cmd/`` or
``wsgi/``) and passes it down.
"""

import copy
import types

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
    rpc,
    spool,
    storm,
    webhook,
)

#: In the order of the sample file.
MODULES = (
    base,
    rpc,
    agent,
    libvirt,
    liveness,
    spool,
    forwarder,
    evidence,
    engine,
    nova,
    nova_notifications,
    reconcile,
    recovery,
    limits,
    storm,
    masakari,
    mistral,
    webhook,
    notifications,
    housekeeping,
    api,
)


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the options of every group on ``conf``."""
    for module in MODULES:
        register_group(conf, module)


def register_group(conf: cfg.ConfigOpts, module: types.ModuleType) -> None:
    """Register the options of one group on ``conf``.

    :param module: one of MODULES.
    """
    # oslo.config keeps values in the OptGroup: a shared one would connect two configurations.
    conf.register_opts(module.OPTS, group=copy.deepcopy(module.GROUP))


def list_opts() -> list[tuple[cfg.OptGroup | None, list[cfg.Opt]]]:
    """Return (group, options) pairs for oslo-config-generator; ``None`` is ``[DEFAULT]``."""
    return [(module.GROUP, module.OPTS) for module in MODULES]


def set_defaults() -> None:
    """Set this service's defaults for options of libraries, also in the sample file."""
    log.set_defaults(default_log_levels=[*log.get_default_log_levels(), "alembic=WARN"])


def new(args: list[str], files: list[str] | None = None) -> cfg.ConfigOpts:
    """Return the configuration of a process.

    :param args: the command line, without the program's name.
    :param files: configuration files to read instead of the default files and directories.
    :raises oslo_config.cfg.Error: an option or a file is invalid.
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
        default_config_dirs=None if files is None else [],
    )
    return conf
