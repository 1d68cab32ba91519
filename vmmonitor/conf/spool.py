# SPDX-License-Identifier: Apache-2.0
"""The agent's outbox on disk."""

from oslo_config import cfg

GROUP = "spool"

OPTS = [
    cfg.StrOpt(
        "path",
        default="$state_path/spool.db",
        help="""
File of the spool, an SQLite database. What the agent last knew of its instances is kept in it
too. Put it on a local disk, never on a network file system. Related options: ``state_path``.
""",
    ),
    cfg.IntOpt(
        "max_events",
        default=100000,
        min=10,
        help="""
Greatest number of spooled events. When it is reached the oldest ``record`` events are given up,
and counted; ``incident`` events only when no other are left.
""",
    ),
    cfg.IntOpt(
        "max_bytes",
        default=268435456,
        min=1048576,
        help="""
Greatest size of the spool in bytes; the same rule as for ``max_events`` when it is reached.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register this group's options on ``conf``."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return (group, options), for the sample file."""
    return [(GROUP, OPTS)]
