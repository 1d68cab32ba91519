# SPDX-License-Identifier: Apache-2.0
"""The webhook recovery driver."""

from oslo_config import cfg

GROUP = "webhook"

OPTS = [
    cfg.URIOpt(
        "url",
        schemes=["http", "https"],
        help="""
Where to POST incidents as CloudEvents 1.0 JSON. Needed by policies that use the ``webhook``
driver.
""",
    ),
    cfg.StrOpt(
        "secret",
        secret=True,
        default="",
        help="""
Key of the HMAC-SHA256 signature in the ``X-Vmmonitor-Signature`` header, so that the receiver
can tell who called. Empty: no signature.
""",
    ),
    cfg.StrOpt(
        "ca_file",
        default="",
        help="""
File with the certificates that the receiver's certificate is checked against, in PEM. Empty: the
system's.
""",
    ),
    cfg.FloatOpt(
        "timeout",
        default=10.0,
        min=0.1,
        max=600,
        help="""
Seconds to wait for the receiver. Related options: the ``timeout`` of the policy's step, which
ends the attempt as a whole.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register this group's options on ``conf``."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return (group, options), for the sample file."""
    return [(GROUP, OPTS)]
