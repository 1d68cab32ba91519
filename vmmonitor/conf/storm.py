# SPDX-License-Identifier: Apache-2.0
"""When so much fails at once that recovering it would do more harm than waiting."""

from oslo_config import cfg

GROUP = "storm"

#: Of a scope: (name, incidents, percent). See the administrator's guide for where they are from.
SCOPES = (
    ("host", 25, 50.0, "a host"),
    ("aggregate", 100, 30.0, "a host aggregate of nova's, which needs ``[engine] expectation``"),
    ("cloud", 200, 20.0, "all hosts together"),
)


def _of_scope(name: str, limit: int, percent: float, words: str) -> list[cfg.Opt]:
    return [
        cfg.IntOpt(
            f"{name}_limit",
            default=limit,
            min=0,
            mutable=True,
            help=f"""
Number of failures within ``window`` beyond which those of {words} are held. 0: any number.
""",
        ),
        cfg.FloatOpt(
            f"{name}_percent",
            default=percent,
            min=0,
            max=100,
            mutable=True,
            help=f"""
Share of the number of instances, in percent, beyond which the failures of {words} are held,
if they are more than ``min_failures``. 0: any share.
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
Seconds within which failures count together.
""",
    ),
    cfg.FloatOpt(
        "cooldown",
        default=60.0,
        min=1,
        max=86400,
        mutable=True,
        help="""
Seconds without a new failure after which a storm is over, and what it held is recovered, the most
important instances first.
""",
    ),
    cfg.IntOpt(
        "min_failures",
        default=10,
        min=0,
        mutable=True,
        help="""
Number of failures that are no storm, whatever share of the instances that is.
""",
    ),
    *(opt for scope in SCOPES for opt in _of_scope(*scope)),
    cfg.IntOpt(
        "storage_limit",
        default=3,
        min=0,
        mutable=True,
        help="""
Number of instances with disk errors of one storage, within ``storage_window``, from which on these
are one cause: one instance is tried, and the others are recovered when that one runs. 0: each for
itself.
""",
    ),
    cfg.FloatOpt(
        "storage_window",
        default=300.0,
        min=1,
        max=86400,
        mutable=True,
        help="""
Seconds within which disk errors of one storage count together. Longer than ``window``: a guest
that seldom writes notices late.
""",
    ),
    cfg.FloatOpt(
        "probe_interval",
        default=30.0,
        min=1,
        max=86400,
        mutable=True,
        help="""
Least seconds before another instance is tried on a storage that fails. They grow to half of the
time for which it has failed by then.
""",
    ),
    cfg.FloatOpt(
        "probe_interval_max",
        default=300.0,
        min=1,
        max=86400,
        mutable=True,
        help="""
Greatest number of seconds before another instance is tried on a storage that fails.
""",
    ),
    cfg.FloatOpt(
        "probe_success_delay",
        default=5.0,
        min=0,
        max=3600,
        mutable=True,
        help="""
Seconds for which the instance that was tried must run, without a new error, until its storage
counts as healed.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register this group's options on ``conf``."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return (group, options), for the sample file."""
    return [(GROUP, OPTS)]
