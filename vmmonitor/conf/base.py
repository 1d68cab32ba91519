# SPDX-License-Identifier: Apache-2.0
"""Options of every process."""

import socket

from oslo_config import cfg

from vmmonitor.model import identifiers

#: These options are in ``[DEFAULT]``.
GROUP = None

OPTS = [
    cfg.StrOpt(
        "host",
        regex=rf"\A{identifiers.HOST_PATTERN}\Z",
        default=socket.gethostname(),
        sample_default="<your host name>",
        help="""
Name of this host, stored in every event and used as the address of the host's agent on the
message bus.

It must be equal to nova's name of the host (the ``host`` option of nova-compute); otherwise
recoveries are sent to the wrong host. Change it only together with nova's option.

It may contain letters, digits, periods, hyphens and underscores.
""",
    ),
    cfg.StrOpt(
        "state_path",
        default="/var/lib/vmmonitor",
        help="""
Directory for state that must survive a restart: the spool of the agent, and the database of
``vmmonitor-standalone``.

Use a local disk with at least ``[spool] max_bytes`` of free space, writable by the service
user. Change it if ``/var/lib`` is too small or on a network file system. Related options:
``[spool] path``, ``[evidence] directory``, ``[liveness] facts_file``.
""",
    ),
]
