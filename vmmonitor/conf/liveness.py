# SPDX-License-Identifier: Apache-2.0
"""Options of the liveness source."""

from oslo_config import cfg

GROUP = "liveness"

OPTS = [
    cfg.StrOpt(
        "sensitivity",
        default="medium",
        choices=[
            ("high", "30 seconds: interval 10, deadline 20, window 30"),
            ("medium", "60 seconds: interval 20, deadline 40, window 60"),
            ("low", "120 seconds: interval 40, deadline 80, window 120"),
        ],
        help="""
How soon an instance that does nothing counts as failed.

The more sensitive, the sooner a recovery begins, and the more it costs to ask. Each of the three
times can also be set by itself. Related options: ``interval``, ``deadline``, ``window``.
""",
    ),
    cfg.FloatOpt(
        "interval",
        min=0.2,
        max=3600,
        sample_default=20,
        help="""
Seconds between two rounds over all running instances. As ``sensitivity`` says, if not set.
""",
    ),
    cfg.FloatOpt(
        "deadline",
        min=0.5,
        max=3600,
        sample_default=40,
        help="""
Seconds in which QEMU must answer a question, and for which its process may be stopped. As
``sensitivity`` says, if not set. A hung QEMU is found within ``interval`` plus this.

Raise it where storage makes QEMU wait longer than that.
""",
    ),
    cfg.FloatOpt(
        "window",
        min=0.5,
        max=7200,
        sample_default=60,
        help="""
Seconds for which a guest must do nothing before it counts as stalled; at least three times
``interval`` makes sense. As ``sensitivity`` says, if not set.
""",
    ),
    cfg.BoolOpt(
        "guest_agent",
        default=False,
        help="""
Ask the guest agent of each instance too, in every round.

One that has spoken and then is silent for ``window`` becomes the event
``liveness.guest_agent``. It needs a libvirt connection that may write, whatever
``[libvirt] read_only`` says.
""",
    ),
    cfg.StrOpt(
        "facts_file",
        default="$state_path/liveness.json",
        help="""
File in which the source keeps what it has told and still lasts, so that a restart of the agent
does not tell it twice. Put it on a local disk. Related options: ``state_path``.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register this group's options on ``conf``."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return (group, options), for the sample file."""
    return [(GROUP, OPTS)]
