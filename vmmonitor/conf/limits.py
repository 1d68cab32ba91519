# SPDX-License-Identifier: Apache-2.0
"""How many recoveries there may be: of one instance, on one host, and in all."""

from oslo_config import cfg

GROUP = "limits"

OPTS = [
    cfg.IntOpt(
        "max_restarts",
        default=3,
        min=-1,
        mutable=True,
        help="""
Number of failures of one instance that are acted upon within ``restart_window``; a further one is
held, and a warning logged, until the first of them is that long ago. 0: nothing is recovered at
all; -1: without limit. A policy may say otherwise (``limits``).

Related options: ``restart_window``.
""",
    ),
    cfg.FloatOpt(
        "restart_window",
        default=3600.0,
        min=1,
        max=31 * 86400,
        mutable=True,
        help="""
Seconds in which ``max_restarts`` counts.

Related options: ``max_restarts``.
""",
    ),
    cfg.FloatOpt(
        "flap_window",
        default=3600.0,
        min=0,
        max=31 * 86400,
        mutable=True,
        help="""
Seconds in which an instance that fails a third time is flapping: its recovery waits for
``flap_backoff``. The first two are recovered at once. 0: none is ever flapping.

Related options: ``flap_backoff``, ``flap_backoff_max``.
""",
    ),
    cfg.FloatOpt(
        "flap_backoff",
        default=30.0,
        min=0,
        max=86400,
        mutable=True,
        help="""
Seconds after the end of the recovery before that the third one within ``flap_window`` waits. Each
further one waits for twice as long, but not longer than ``flap_backoff_max``.

Related options: ``flap_window``, ``flap_backoff_max``.
""",
    ),
    cfg.FloatOpt(
        "flap_backoff_max",
        default=600.0,
        min=0,
        max=86400,
        mutable=True,
        help="""
Seconds that the recovery of a flapping instance waits at most.

Related options: ``flap_backoff``.
""",
    ),
    cfg.IntOpt(
        "max_recoveries_per_host",
        default=8,
        min=-1,
        mutable=True,
        help="""
Number of recoveries under way on one host at once: those in which a driver is at work, or whose
instance is waited for. Others wait for their turn, the most important first. 0: none begins; -1:
without limit.

Related options: ``max_recoveries``.
""",
    ),
    cfg.IntOpt(
        "max_recoveries",
        default=50,
        min=-1,
        mutable=True,
        help="""
Number of recoveries under way on all hosts at once, whichever engine works on them. 0: none
begins; -1: without limit. One engine calls no more drivers at once than it has ``[recovery]
workers``.

Related options: ``max_recoveries_per_host``, ``[recovery] workers``.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register this group's options on ``conf``."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return (group, options), for the sample file."""
    return [(GROUP, OPTS)]
