# SPDX-License-Identifier: Apache-2.0
"""Options of reconciliation."""

from oslo_config import cfg

GROUP = "reconcile"

OPTS: list[cfg.Opt] = [
    cfg.FloatOpt(
        "interval",
        default=30.0,
        min=0,
        max=86400,
        mutable=True,
        help="""
Seconds between two rounds in which an engine holds what the agents say against what instances
should be doing. 0 turns it off. Each engine asks the expectation once per round, in bulk.
""",
    ),
    cfg.FloatOpt(
        "hold",
        default=60.0,
        min=0,
        max=86400,
        mutable=True,
        help="""
Seconds for which a difference must be seen, at least twice, before it is told. Keep it above the
time for which nova is behind reality when it does something (its own hold is 15 s), and above two
rounds. Related options: ``interval``.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register this group's options on ``conf``."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return (group, options), for the sample file."""
    return [(GROUP, OPTS)]
