# SPDX-License-Identifier: Apache-2.0
"""The REST API."""

from oslo_config import cfg

GROUP = "api"

OPTS = [
    cfg.StrOpt(
        "auth_strategy",
        default="noauth",
        choices=[
            ("noauth", "no authentication; requests from the loopback interface only"),
        ],
        help="""
How callers are known.
""",
    ),
    cfg.IntOpt(
        "max_limit",
        default=1000,
        min=1,
        max=100000,
        help="""
Greatest number of rows in one answer; a request that asks for more gets this many and a marker.
""",
    ),
    cfg.IntOpt(
        "max_silence_duration",
        default=30 * 86400,
        min=60,
        max=10 * 365 * 86400,
        help="""
Seconds that a silence may last at most, so that none is forgotten for ever.
""",
    ),
    cfg.HostAddressOpt(
        "bind_host",
        default="127.0.0.1",
        help="""
Address on which ``vmmonitor-standalone`` serves the API. Any other deployment uses its WSGI
server's own setting.
""",
    ),
    cfg.PortOpt(
        "bind_port",
        default=15869,
        help="""
Port on which ``vmmonitor-standalone`` serves the API. Related options: ``bind_host``.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register this group's options on ``conf``."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return (group, options), for the sample file."""
    return [(GROUP, OPTS)]
