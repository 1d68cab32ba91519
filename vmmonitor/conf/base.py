# SPDX-License-Identifier: Apache-2.0
"""Options of every process."""

import socket

from oslo_config import cfg

GROUP = "DEFAULT"

OPTS = [
    cfg.HostAddressOpt(
        "host",
        default=socket.gethostname(),
        sample_default="<your host name>",
        help="""
Name of this host.

It must be the name under which nova knows the host (the ``host`` option of nova-compute), or
recoveries go to the wrong place. Change it only together with nova's. Names the host in every
event, and is the address of its agent on the message bus.
""",
    ),
    cfg.StrOpt(
        "state_path",
        default="/var/lib/vmmonitor",
        help="""
Directory for what must outlive a restart: the agent's spool, a standalone service's database.

It should be on a local disk with room for ``[spool] max_bytes``, owned by the service's user.
Related options: ``[spool] path``.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register this group's options on ``conf``."""
    conf.register_opts(OPTS)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return (group, options), for the sample file."""
    return [(GROUP, OPTS)]
