# SPDX-License-Identifier: Apache-2.0
"""The WSGI application ``vmmonitor.wsgi.api:application``, for any WSGI server.

It is created on import, as WSGI servers expect. It connects to the database at the first request,
so a server can fork after the import.
"""

import os
from collections.abc import Callable

from oslo_config import cfg
from oslo_log import log

from vmmonitor import conf as vmmonitor_conf
from vmmonitor import log_setup
from vmmonitor.api import deploy
from vmmonitor.model import errors

#: Environment variable with a comma-separated list of configuration files. If it is not set,
#: oslo.config searches its default directories.
FILES = "VMMONITOR_CONFIG_FILES"


def build(files: list[str] | None) -> Callable:
    """Return the application.

    :param files: configuration files to read instead of the default ones.
    :raises SystemExit: the configuration is invalid.
    """
    try:
        conf = vmmonitor_conf.new([], files)
        log_setup.setup(conf)
        # oslo.config validates a value when it is read: validate now, not in a request.
        dict(conf.api)
        return deploy.build(conf)
    except (cfg.Error, log.LogConfigError, errors.VmmonitorError) as error:
        raise SystemExit(f"vmmonitor API: invalid configuration: {error}") from error


application = build([name for name in os.environ.get(FILES, "").split(",") if name] or None)
