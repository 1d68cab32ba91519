# SPDX-License-Identifier: Apache-2.0
"""Options of reconciliation."""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    "reconcile",
    title="Reconciliation",
    help="""
Options of reconciliation, which compares the observed state of instances, as reported by
agents, with their desired state, and reports drift as events.
""",
)

OPTS: list[cfg.Opt] = [
    cfg.FloatOpt(
        "interval",
        default=30.0,
        min=0,
        max=86400,
        mutable=True,
        help="""
Interval, in seconds, between comparisons of the observed with the desired state. In each round
an engine queries the desired state once, in bulk. With 0 reconciliation is disabled.

Increase it to reduce the load on nova. Related options: ``hold``.
""",
    ),
    cfg.FloatOpt(
        "hold",
        default=60.0,
        min=0,
        max=86400,
        mutable=True,
        help="""
Minimum time, in seconds, that drift must last before it is reported. It must also be observed
at least twice. With 0 drift is reported when it is observed for the second time.

Keep it above the delay of nova's own updates (about 15 seconds) and above twice the interval.
Related options: ``interval``.
""",
    ),
]
