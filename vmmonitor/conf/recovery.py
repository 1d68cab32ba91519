# SPDX-License-Identifier: Apache-2.0
"""How incidents become recoveries."""

from oslo_config import cfg

GROUP = "recovery"

OPTS = [
    cfg.StrOpt(
        "policy_file",
        default="",
        help="""
YAML file with the recovery policies: which driver, how often, after which hold.

Empty: ``recovery_policies.yaml`` beside the configuration file, or the shipped policies if there
is none. SIGHUP reads it again; a broken file is refused and the old policies stay in force.
""",
    ),
    cfg.IntOpt(
        "workers",
        default=8,
        min=1,
        max=256,
        help="""
Number of recoveries that one engine process runs at once. Each waits for its driver in a thread
of its own.
""",
    ),
    cfg.FloatOpt(
        "lease",
        default=30.0,
        min=1,
        max=3600,
        help="""
Seconds after which another engine takes over a recovery whose engine died. A live engine renews
its leases at a third of this. Shorter is faster after a crash, and costs more renewals.
""",
    ),
    cfg.FloatOpt(
        "poll_interval",
        default=1.0,
        min=0.05,
        max=60,
        help="""
Seconds between two looks at the database for work that another engine left: holds that are over,
leases that ran out. An engine's own work starts at once, whatever this says.
""",
    ),
    cfg.FloatOpt(
        "verdict_retry_interval",
        default=10.0,
        min=0.1,
        max=3600,
        help="""
Seconds before the expectation is asked again about an incident on which it had no verdict.
""",
    ),
    cfg.FloatOpt(
        "verdict_timeout",
        default=30.0,
        min=0.1,
        max=3600,
        help="""
Seconds that a worker waits for the expectation's answer about one incident; without one by then
nobody knows, and it is asked again. Keep it above ``[nova] timeout``.
""",
    ),
    cfg.FloatOpt(
        "unknown_limit",
        default=60.0,
        min=0,
        max=86400,
        help="""
Seconds since an incident opened after which it is ``held``, and a warning is logged, if nobody has
known by then whether it is a failure. The expectation is asked on.
""",
    ),
    cfg.FloatOpt(
        "maintenance_interval",
        default=30.0,
        min=0.1,
        max=3600,
        help="""
Seconds between two looks whether a host, whose incidents are silenced as nova calls it disabled,
is still in maintenance.
""",
    ),
    cfg.FloatOpt(
        "active_poll_interval",
        default=1.0,
        min=0.1,
        max=60,
        help="""
Seconds between two questions whether an instance is active again, under a policy that waits for
that (``wait_for: active``).
""",
    ),
    cfg.BoolOpt(
        "dry_run",
        default=False,
        mutable=True,
        help="""
Everything is decided and recorded, and no driver is called. Policies and their steps have a
``dry_run`` of their own.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register this group's options on ``conf``."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return (group, options), for the sample file."""
    return [(GROUP, OPTS)]
