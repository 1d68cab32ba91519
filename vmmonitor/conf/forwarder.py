# SPDX-License-Identifier: Apache-2.0
"""How the agent hands its spool to the engine."""

from oslo_config import cfg

GROUP = "forwarder"

OPTS = [
    cfg.IntOpt(
        "batch_size",
        default=500,
        min=1,
        max=5000,
        mutable=True,
        help="""
Greatest number of events in one call to the engine. Smaller batches spread one host's backlog
over several engines; larger ones empty it faster.
""",
    ),
    cfg.FloatOpt(
        "reply_timeout",
        default=10.0,
        min=0.1,
        max=600,
        mutable=True,
        help="""
Seconds to wait for the engine's receipt before the batch is sent again. A batch that arrives
twice is stored once.
""",
    ),
    cfg.FloatOpt(
        "retry_min",
        default=0.2,
        min=0.01,
        max=60,
        mutable=True,
        help="""
Seconds before the first new try after a failed call; doubled, with jitter, up to ``retry_max``.
The forwarder never gives up.
""",
    ),
    cfg.FloatOpt(
        "retry_max",
        default=10.0,
        min=0.1,
        max=3600,
        mutable=True,
        help="""
Greatest number of seconds between two tries. Related options: ``retry_min``.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register this group's options on ``conf``."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return (group, options), for the sample file."""
    return [(GROUP, OPTS)]
