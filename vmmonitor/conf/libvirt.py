# SPDX-License-Identifier: Apache-2.0
"""How the agent reaches libvirt."""

from oslo_config import cfg

GROUP = "libvirt"

OPTS = [
    cfg.StrOpt(
        "uri",
        default="qemu:///system",
        help="""
Which libvirt to watch.

Change it for a session daemon or a socket at another place, for example
``qemu:///session?socket=/run/user/1000/libvirt/libvirt-sock``.
""",
    ),
    cfg.BoolOpt(
        "read_only",
        default=True,
        help="""
Watch through libvirt's read-only socket, which is all that watching needs.

Turn it off where libvirtd has no read-only socket (a session daemon). Recovery opens a writing
connection of its own when it needs one. Related options: ``[agent] allow_recovery``.
""",
    ),
    cfg.IntOpt(
        "keepalive_interval",
        default=5,
        min=1,
        max=3600,
        help="""
Seconds between two keepalive messages to libvirtd.

Shorten it to notice a hung libvirtd sooner. Related options: ``keepalive_count``.
""",
    ),
    cfg.IntOpt(
        "keepalive_count",
        default=3,
        min=1,
        max=100,
        help="""
Number of keepalive messages without an answer after which libvirtd counts as gone.
""",
    ),
    cfg.FloatOpt(
        "reconnect_min",
        default=0.2,
        min=0.01,
        max=60,
        help="""
Seconds before the first try to reconnect; doubled, with jitter, for each further one up to
``reconnect_max``. The agent never gives up.
""",
    ),
    cfg.FloatOpt(
        "reconnect_max",
        default=10.0,
        min=0.1,
        max=3600,
        help="""
Greatest number of seconds between two tries to reconnect. Related options: ``reconnect_min``.
""",
    ),
    cfg.FloatOpt(
        "resume_probe",
        default=2.0,
        min=0.1,
        max=60,
        help="""
Seconds for which an instance that was paused by a storage error must go on running after it was
resumed, before the error counts as over.
""",
    ),
    cfg.FloatOpt(
        "answer_timeout",
        default=5.0,
        min=0.1,
        max=300,
        help="""
Seconds in which the QEMU of an instance that is said to hang must answer. One that does not is
ended by force and started again.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register this group's options on ``conf``."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return (group, options), for the sample file."""
    return [(GROUP, OPTS)]
