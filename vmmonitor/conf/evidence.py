# SPDX-License-Identifier: Apache-2.0
"""Options of the evidence that the agent captures about events."""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    "evidence",
    title="Evidence",
    help="""
Options of evidence, such as a screenshot or the QEMU log at the time of an event. The agent
captures evidence only for events whose filter rule has ``evidence:``.
""",
)

OPTS = [
    cfg.StrOpt(
        "store",
        default="host",
        choices=[
            ("host", "in a directory on the host of the event"),
            ("engine", "in the engine's database, after a temporary copy in the directory"),
        ],
        help="""
Location where evidence is stored.

Set it to ``engine`` to read evidence through the API; it is then deleted together with its
event. The database needs up to ``max_bytes`` per item. Related options: ``directory``,
``max_bytes``, ``[agent] filter_file``.
""",
    ),
    cfg.StrOpt(
        "directory",
        default="$state_path/evidence",
        help="""
Directory of the evidence on the host. It is created on first use and is readable only by the
user of the agent.

Its subdirectory ``kept`` contains evidence that stays on the host. Its subdirectory
``outgoing`` contains evidence that no engine has acknowledged yet. Change it if ``state_path``
is too small. Related options: ``state_path``, ``max_total_bytes``.
""",
    ),
    cfg.IntOpt(
        "max_bytes",
        default=1048576,
        min=1024,
        max=4194304,
        mutable=True,
        help="""
Maximum size of one item, in bytes. A larger screenshot is omitted. A longer text is cut at its
start, and is never longer than 64 KiB.

Increase it if screenshots are omitted. Related options: ``max_total_bytes``.
""",
    ),
    cfg.IntOpt(
        "max_total_bytes",
        default=268435456,
        min=1048576,
        help="""
Maximum size of each of the subdirectories ``kept`` and ``outgoing``, in bytes. At the limit the
oldest evidence is deleted and counted.

Increase it to keep evidence of more events. Related options: ``directory``, ``keep_days``.
""",
    ),
    cfg.IntOpt(
        "keep_days",
        default=30,
        min=0,
        mutable=True,
        help="""
Number of days to keep evidence on the host. With 0 it is kept until ``max_total_bytes`` is
reached.

The engine does not delete evidence on hosts. Keep this value at most as large as
``[housekeeping] keep_days``, so that no evidence outlives its event.
""",
    ),
    cfg.FloatOpt(
        "timeout",
        default=5.0,
        min=0.1,
        max=60,
        mutable=True,
        help="""
Maximum time, in seconds, to capture one item. On timeout the item is reported as missing.

Increase it if items are missing on slow storage. The default value is fine for most
deployments.
""",
    ),
    cfg.IntOpt(
        "queue_size",
        default=100,
        min=1,
        max=10000,
        help="""
Maximum number of events that wait for the capture of their evidence. Beyond it, evidence is not
captured, and the omission is counted: it would be too late to show the time of the event.

The default value is fine for most deployments.
""",
    ),
    cfg.FloatOpt(
        "stats_interval",
        default=10.0,
        min=0.5,
        max=3600,
        mutable=True,
        help="""
Interval, in seconds, between samples of the statistics of all instances. The evidence ``stats``
contains the samples before the event. Samples are taken only if a filter rule requests
``stats``.

Decrease it for a finer resolution at a higher cost. Related options: ``stats_samples``.
""",
    ),
    cfg.IntOpt(
        "stats_samples",
        default=6,
        min=1,
        max=100,
        help="""
Number of statistics samples to keep for each instance. One sample needs a few hundred bytes of
memory.

Increase it to see a longer time before the event. Related options: ``stats_interval``.
""",
    ),
    cfg.StrOpt(
        "qemu_log_directory",
        default="",
        help="""
Directory of the QEMU log files; the log of the libvirt domain NAME is ``NAME.log``.

If empty, ``/var/log/libvirt/qemu`` is used for a system libvirt, and ``libvirt/qemu/log`` in
the cache directory of the agent's user for a session libvirt. Change it if libvirt writes its
logs to another directory. Related options: ``[libvirt] uri``.
""",
    ),
]
