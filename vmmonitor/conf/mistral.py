# SPDX-License-Identifier: Apache-2.0
"""The mistral recovery driver. keystoneauth's options of this group are registered by whoever asks
mistral."""

from oslo_config import cfg

GROUP = "mistral"

OPTS = [
    cfg.StrOpt(
        "workflow",
        default="",
        help="""
Name or id of the workflow that recovers an instance. A policy's step may name another one:
``options: {workflow: NAME}``. Empty: each step must.
""",
    ),
    cfg.FloatOpt(
        "poll_interval",
        default=1.0,
        min=0.1,
        max=60,
        help="""
Greatest number of seconds between two looks at the execution of a workflow; the first ones follow
faster.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register this group's options on ``conf``."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return (group, options), for the sample file."""
    return [(GROUP, OPTS)]
