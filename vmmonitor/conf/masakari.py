# SPDX-License-Identifier: Apache-2.0
"""The masakari recovery driver. keystoneauth's options of this group are registered by whoever
asks masakari."""

from oslo_config import cfg

GROUP = "masakari"

OPTS: list[cfg.Opt] = [
    cfg.FloatOpt(
        "poll_interval",
        default=1.0,
        min=0.1,
        max=60,
        help="""
Greatest number of seconds between two looks at what masakari makes of a notification; the first
ones follow faster.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register this group's options on ``conf``."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return (group, options), for the sample file."""
    return [(GROUP, OPTS)]
