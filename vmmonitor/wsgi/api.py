# SPDX-License-Identifier: Apache-2.0
"""The WSGI application: point any WSGI server at ``vmmonitor.wsgi.api:application``.

It is built when the module is imported, as WSGI servers expect, and connects to nothing before
the first request, so a server may fork afterwards.
"""

import os
from collections.abc import Callable

from oslo_config import cfg
from oslo_log import log

from vmmonitor import conf as vmmonitor_conf
from vmmonitor.api import deploy
from vmmonitor.model import errors

#: Configuration files, with commas; without it they are searched in oslo.config's usual places.
FILES = "VMMONITOR_CONFIG_FILES"


def build(files: list[str] | None) -> Callable:
    """Return the application.

    :param files: configuration files instead of the usual places.
    :raises SystemExit: the configuration is broken; the message says how.
    """
    try:
        conf = vmmonitor_conf.new([], files)
        log.setup(conf, "vmmonitor")
        # oslo.config looks at a value when it is read: do that now, not in a request.
        dict(conf.api)
        return deploy.build(conf)
    except (cfg.Error, log.LogConfigError, errors.VmmonitorError) as error:
        raise SystemExit(f"vmmonitor API: the configuration is broken: {error}") from error


application = build([name for name in os.environ.get(FILES, "").split(",") if name] or None)
