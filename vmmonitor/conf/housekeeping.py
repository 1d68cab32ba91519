# SPDX-License-Identifier: Apache-2.0
"""Options of housekeeping: retention and agent health."""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    "housekeeping",
    title="Housekeeping",
    help="""
Options of the periodic work of the engine: deletion of old rows, and detection of agents that
do not report or whose clock is wrong.
""",
)

OPTS = [
    cfg.FloatOpt(
        "interval",
        default=60.0,
        min=0.1,
        max=86400,
        mutable=True,
        help="""
Interval, in seconds, between deletions of old rows. Every engine does so; the work is safe to
repeat.

The default value is fine for most deployments.
""",
    ),
    cfg.IntOpt(
        "keep_days",
        default=90,
        min=0,
        max=3650,
        mutable=True,
        help="""
Number of days to keep events and closed incidents. With 0 they are kept indefinitely.

Decrease it to limit the size of the database. Related options: ``keep_events``, ``[evidence]
keep_days``.
""",
    ),
    cfg.IntOpt(
        "keep_events",
        default=10000000,
        min=0,
        mutable=True,
        help="""
Maximum number of events to keep. The oldest events are deleted first, except events of
incidents that are not closed. With 0 there is no limit.

Decrease it to limit the size of the database. Related options: ``keep_days``.
""",
    ),
    cfg.FloatOpt(
        "late_after",
        default=3.0,
        min=1.1,
        max=100,
        mutable=True,
        help="""
Number of report intervals without a report until an agent is ``late``.

Increase it if agents become ``late`` on a slow network. Related options: ``[agent]
report_interval``, ``unwatched_after``.
""",
    ),
    cfg.FloatOpt(
        "unwatched_after",
        default=60.0,
        min=0.1,
        max=86400,
        mutable=True,
        help="""
Time, in seconds, without monitoring of a host until an incident of kind ``host`` is opened. It
is measured from the last report of an agent that is ``late``, from the time when an agent
became ``blind``, and at the earliest from the start of the engine.

Increase it if restarts of agents, such as upgrades, open incidents. Related options:
``late_after``, ``[agent] report_interval``.
""",
    ),
    cfg.FloatOpt(
        "clock_warn",
        default=1.0,
        min=0.1,
        max=86400,
        mutable=True,
        help="""
Clock offset of a host, in seconds, above which the engine logs a warning and the agent's reason
shows the offset. Times of events are corrected by the offset in any case.

Increase it if the clocks of your hosts are not synchronized.
""",
    ),
]
