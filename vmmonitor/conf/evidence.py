# SPDX-License-Identifier: Apache-2.0
"""What the agent captures for events whose filter rule asks for evidence, and where it is kept."""

from oslo_config import cfg

GROUP = "evidence"

OPTS = [
    cfg.StrOpt(
        "store",
        default="host",
        choices=[
            ("host", "in a directory of the host on which the event happened"),
            ("engine", "in the engine's database; the directory is the way there"),
        ],
        help="""
Where evidence is kept.

Nothing is captured at all unless a rule of the event filter asks for it (``evidence:``). With
``engine`` it can be read through the API and is deleted with its event; it costs the database up
to ``max_bytes`` per item. Related options: ``[agent] filter_file``.
""",
    ),
    cfg.StrOpt(
        "directory",
        default="$state_path/evidence",
        help="""
Directory of the evidence, made when it is first needed; only the agent's user can read it.

Below it, ``kept`` holds what stays on this host and ``outgoing`` what an engine has not
acknowledged yet. Related options: ``state_path``.
""",
    ),
    cfg.IntOpt(
        "max_bytes",
        default=1048576,
        min=1024,
        max=4194304,
        mutable=True,
        help="""
Greatest size of one item in bytes. A screenshot that is larger is left out; of a text only so much
of its end is kept, and never more than 64 KiB.
""",
    ),
    cfg.IntOpt(
        "max_total_bytes",
        default=268435456,
        min=1048576,
        help="""
Greatest size of ``kept``, and of ``outgoing``, in bytes. When it is reached the oldest evidence
is deleted, and counted.
""",
    ),
    cfg.IntOpt(
        "keep_days",
        default=30,
        min=0,
        mutable=True,
        help="""
Number of days for which evidence is kept on the host; 0: until there is too much of it.

The engine deletes events on its own side: keep this as long as ``[housekeeping] keep_days``, or
shorter. Related options: ``keep_days``.
""",
    ),
    cfg.FloatOpt(
        "timeout",
        default=5.0,
        min=0.1,
        max=60,
        mutable=True,
        help="""
Seconds that capturing one item may take. What does not come by then is told as missing.
""",
    ),
    cfg.IntOpt(
        "queue_size",
        default=100,
        min=1,
        max=10000,
        help="""
Number of events that may wait for their evidence. It is not captured for those beyond it, which
are counted: after so long a wait it would show another moment.
""",
    ),
    cfg.FloatOpt(
        "stats_interval",
        default=10.0,
        min=0.5,
        max=3600,
        mutable=True,
        help="""
Seconds between two looks at the statistics of all instances, of which ``stats`` shows the last
ones before the event. Nobody looks unless a rule asks for ``stats``.
""",
    ),
    cfg.IntOpt(
        "stats_samples",
        default=6,
        min=1,
        max=100,
        help="""
Number of looks at an instance's statistics that are remembered; each takes some
hundred bytes of memory.
""",
    ),
    cfg.StrOpt(
        "qemu_log_directory",
        default="",
        help="""
Directory of QEMU's log files, NAME.log for the instance that libvirt calls NAME.

Empty: ``/var/log/libvirt/qemu`` for a system's libvirt, and for a session's
``libvirt/qemu/log`` in the cache directory of the agent's user. Related options: ``uri``.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register this group's options on ``conf``."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return (group, options), for the sample file."""
    return [(GROUP, OPTS)]
