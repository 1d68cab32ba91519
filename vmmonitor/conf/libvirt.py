# SPDX-License-Identifier: Apache-2.0
"""Options of the agent's connections to libvirt."""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    "libvirt",
    title="libvirt",
    help="""
Options of the agent's connections to libvirt, and of the recoveries that the agent carries out
through libvirt.
""",
)

OPTS = [
    cfg.StrOpt(
        "uri",
        default="qemu:///system",
        help="""
URI of the libvirt to watch.

Change it for a session daemon or a socket at another path, for example
``qemu:///session?socket=/run/user/1000/libvirt/libvirt-sock``. Related options: ``read_only``.
""",
    ),
    cfg.BoolOpt(
        "read_only",
        default=True,
        help="""
Watch instances through the read-only socket of libvirt.

Set it to false if libvirt has no read-only socket (session daemons). Recovery opens a separate
writable connection when it needs one. Related options: ``[agent] allow_recovery``.
""",
    ),
    cfg.IntOpt(
        "keepalive_interval",
        default=5,
        min=1,
        max=3600,
        help="""
Interval, in seconds, between keepalive messages to libvirtd.

Decrease it to detect a hung libvirtd sooner. Related options: ``keepalive_count``.
""",
    ),
    cfg.IntOpt(
        "keepalive_count",
        default=3,
        min=1,
        max=100,
        help="""
Number of unanswered keepalive messages until the connection to libvirtd is closed and opened
again.

Increase it if a busy libvirtd is disconnected. Related options: ``keepalive_interval``.
""",
    ),
    cfg.FloatOpt(
        "reconnect_min",
        default=0.2,
        min=0.01,
        max=60,
        help="""
Delay, in seconds, before the first attempt to reconnect to libvirtd. The delay doubles with
each attempt, with jitter, up to ``reconnect_max``. The attempts never end.

The default value is fine for most deployments. Related options: ``reconnect_max``.
""",
    ),
    cfg.FloatOpt(
        "reconnect_max",
        default=10.0,
        min=0.1,
        max=3600,
        help="""
Maximum delay, in seconds, between attempts to reconnect to libvirtd.

Decrease it to monitor again sooner after a long outage of libvirtd. Related options:
``reconnect_min``.
""",
    ),
    cfg.IntOpt(
        "vanished_limit",
        default=10,
        min=0,
        max=1_000_000,
        help="""
Maximum number of instances that may disappear from libvirt at once without proof that their QEMU
processes have ended. Above it, or if all instances of the host disappear, the agent becomes
``blind`` instead of reporting failures. With 0 there is no limit.

Set it to 0 only to make the agent report instances that it cannot examine as failed. Related
options: ``uri``.
""",
    ),
    cfg.FloatOpt(
        "resume_probe",
        default=2.0,
        min=0.1,
        max=60,
        help="""
Minimum time, in seconds, that an instance must run after it was resumed from a storage error.
If it is paused again within this time, the attempt has failed.

Increase it if guests write so rarely that an error reappears later. Related options: ``[agent]
allow_recovery``.
""",
    ),
    cfg.FloatOpt(
        "answer_timeout",
        default=5.0,
        min=0.1,
        max=300,
        help="""
Maximum time, in seconds, to wait for a response of QEMU before an instance that was reported as
hung is terminated and started again.

Increase it if slow storage blocks QEMU for longer. Related options: ``[liveness] deadline``.
""",
    ),
]
