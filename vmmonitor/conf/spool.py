# SPDX-License-Identifier: Apache-2.0
"""Options of the agent's spool."""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    "spool",
    title="Spool",
    help="""
Options of the spool, a file that stores the agent's events until an engine has acknowledged
them.
""",
)

OPTS = [
    cfg.StrOpt(
        "path",
        default="$state_path/spool.db",
        help="""
Path of the spool, an SQLite database. It also contains the last inventory of the agent.

Use a local disk, never a network file system. Change it if ``state_path`` is not on a local
disk. Related options: ``state_path``.
""",
    ),
    cfg.IntOpt(
        "max_events",
        default=100000,
        min=10,
        help="""
Maximum number of spooled events. At the limit the oldest events with the outcome ``record`` are
dropped and counted, and other events only if no such event is left.

Increase it to survive a longer outage of the engines or the broker. Related options:
``max_bytes``, ``[agent] behind_mark``.
""",
    ),
    cfg.IntOpt(
        "max_bytes",
        default=268435456,
        min=1048576,
        help="""
Maximum size of the spool, in bytes. At the limit events are dropped as with ``max_events``.

Increase it together with ``max_events``. Related options: ``state_path``.
""",
    ),
]
