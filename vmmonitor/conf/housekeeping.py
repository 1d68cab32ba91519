# SPDX-License-Identifier: Apache-2.0
"""What the engine tidies up."""

from oslo_config import cfg

GROUP = "housekeeping"

OPTS = [
    cfg.FloatOpt(
        "interval",
        default=60.0,
        min=0.1,
        max=86400,
        mutable=True,
        help="""
Seconds between two rounds of housekeeping. Every engine does it; doing it twice is harmless.
""",
    ),
    cfg.IntOpt(
        "keep_days",
        default=90,
        min=0,
        max=3650,
        mutable=True,
        help="""
Days for which events, and incidents that are over, are kept. 0: for ever. Related options:
``keep_events``.
""",
    ),
    cfg.IntOpt(
        "keep_events",
        default=10000000,
        min=0,
        mutable=True,
        help="""
Number of events that are kept at most; the oldest go first, except those of incidents that are
not over. 0: without limit.
""",
    ),
    cfg.FloatOpt(
        "late_after",
        default=3.0,
        min=1.1,
        max=100,
        mutable=True,
        help="""
An agent is ``late`` when it has not reported for this many times its own report interval.
""",
    ),
    cfg.FloatOpt(
        "unwatched_after",
        default=60.0,
        min=0.1,
        max=86400,
        mutable=True,
        help="""
Seconds for which a host may be unwatched before that is an incident of its own (of the kind
``host``): since the last report of an agent that is ``late``, or since an agent is ``blind``.

An engine waits as long after its own start. Related options: ``late_after``,
``[agent] report_interval``.
""",
    ),
    cfg.FloatOpt(
        "clock_warn",
        default=1.0,
        min=0.1,
        max=86400,
        mutable=True,
        help="""
Seconds by which a host's clock may be off before the engine's log and the reason of its agent say
so. Times are corrected all the same.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register this group's options on ``conf``."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return (group, options), for the sample file."""
    return [(GROUP, OPTS)]
