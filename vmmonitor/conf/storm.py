# SPDX-License-Identifier: Apache-2.0
"""Options of the protection against failure storms."""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    "storm",
    title="Storm protection",
    help="""
Options of storm protection. If many instances of a host, a host aggregate or the cloud fail
within ``window``, a circuit breaker opens: their recoveries are held until the storm is over. A
storage that fails for several instances is a storm of its own: one instance probes the storage,
and the others are recovered when it runs.
""",
)

#: (prefix of the options, default limit, default percentage, scope as the help names it). The
#: guide to storms gives the reasons for the numbers.
SCOPES = (
    ("host", 25, 50.0, "one host"),
    ("aggregate", 100, 30.0, "one host aggregate of nova"),
    ("cloud", 200, 20.0, "all hosts together"),
)


def _scope_opts(prefix: str, limit: int, percent: float, scope: str) -> list[cfg.Opt]:
    """Return the two options of a scope."""
    needs_nova = ", ``[engine] expectation``" if prefix == "aggregate" else ""
    return [
        cfg.IntOpt(
            f"{prefix}_limit",
            default=limit,
            min=0,
            mutable=True,
            help=f"""
Maximum number of failures on {scope} within ``window``. More failures are a storm. With
0 there is no limit by number.

Increase it if more simultaneous failures are normal. Related options:
``{prefix}_percent``, ``window``{needs_nova}.
""",
        ),
        cfg.FloatOpt(
            f"{prefix}_percent",
            default=percent,
            min=0,
            max=100,
            mutable=True,
            help=f"""
Maximum percentage of the instances on {scope} that may fail within ``window``. More
failures are a storm if they are also more than ``min_failures``. With 0 there is no
limit by percentage.

Increase it if more simultaneous failures are normal. Related options:
``{prefix}_limit``, ``min_failures``, ``window``{needs_nova}.
""",
        ),
    ]


OPTS = [
    cfg.FloatOpt(
        "window",
        default=60.0,
        min=1,
        max=86400,
        mutable=True,
        help="""
Time, in seconds, over which failures are counted.

Increase it if failures with one cause are reported over a longer time. Related options:
``cooldown``.
""",
    ),
    cfg.FloatOpt(
        "cooldown",
        default=60.0,
        min=1,
        max=86400,
        mutable=True,
        help="""
Time, in seconds, without a new failure until a storm is over. The held recoveries then start,
ordered by priority.

Decrease it to start recoveries sooner after a storm. Related options: ``window``.
""",
    ),
    cfg.IntOpt(
        "min_failures",
        default=10,
        min=0,
        mutable=True,
        help="""
Minimum number of failures that can trigger a storm by percentage; this many failures or fewer
never do. With 0 every number can.

Decrease it if your hosts run few instances. Related options: ``host_percent``,
``aggregate_percent``, ``cloud_percent``.
""",
    ),
    *_scope_opts(*SCOPES[0]),
    *_scope_opts(*SCOPES[1]),
    *_scope_opts(*SCOPES[2]),
    cfg.IntOpt(
        "storage_limit",
        default=3,
        min=0,
        mutable=True,
        help="""
Minimum number of instances with disk errors of one storage, within ``storage_window``, that
become one storm: one instance probes the storage, and the others wait. With 0 each instance is
recovered on its own.

Increase it if disk errors of single instances are common. Related options: ``storage_window``,
``probe_interval``.
""",
    ),
    cfg.FloatOpt(
        "storage_window",
        default=300.0,
        min=1,
        max=86400,
        mutable=True,
        help="""
Time, in seconds, over which the disk errors of one storage are counted. It is longer than
``window``, because a guest that rarely writes detects the failure late.

Increase it if guests detect a failed storage even later. Related options: ``storage_limit``.
""",
    ),
    cfg.FloatOpt(
        "probe_interval",
        default=30.0,
        min=1,
        max=86400,
        mutable=True,
        help="""
Initial interval, in seconds, between probe recoveries on a failed storage. The interval
increases to half the duration of the outage, up to ``probe_interval_max``.

Decrease it to detect a repaired storage sooner. Related options: ``probe_interval_max``.
""",
    ),
    cfg.FloatOpt(
        "probe_interval_max",
        default=300.0,
        min=1,
        max=86400,
        mutable=True,
        help="""
Maximum interval, in seconds, between probe recoveries on a failed storage.

Decrease it to detect a repaired storage sooner after a long outage. Related options:
``probe_interval``.
""",
    ),
    cfg.FloatOpt(
        "probe_success_delay",
        default=5.0,
        min=0,
        max=3600,
        mutable=True,
        help="""
Minimum time, in seconds, that the probing instance must run without a new error before its
storage is considered repaired. With 0 the storage is considered repaired when the instance
runs.

Increase it if errors reappear later. Related options: ``probe_interval``.
""",
    ),
]
