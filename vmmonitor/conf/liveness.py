# SPDX-License-Identifier: Apache-2.0
"""Options of the liveness source."""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    "liveness",
    title="Liveness source",
    help="""
Options of the agent's source ``liveness``, which detects a QEMU that does not respond and a
guest that makes no progress.
""",
)

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
Preset of the time until an instance without progress is reported as failed.

A higher sensitivity starts recovery sooner and queries the instances more often. You can also
set each of the three times separately. Related options: ``interval``, ``deadline``, ``window``.
""",
    ),
    cfg.FloatOpt(
        "interval",
        min=0.2,
        max=3600,
        sample_default=20,
        help="""
Interval, in seconds, between checks of all running instances. If not set, ``sensitivity``
defines it.

Set it to change the cost of the checks without another deadline. Related options:
``sensitivity``.
""",
    ),
    cfg.FloatOpt(
        "deadline",
        min=0.5,
        max=3600,
        sample_default=40,
        help="""
Maximum time, in seconds, for QEMU to respond, and for its process to be stopped. A hung QEMU is
reported within ``interval`` plus this time. If not set, ``sensitivity`` defines it.

Increase it if storage blocks QEMU for longer. Related options: ``sensitivity``, ``[libvirt]
answer_timeout``.
""",
    ),
    cfg.FloatOpt(
        "window",
        min=0.5,
        max=7200,
        sample_default=60,
        help="""
Time, in seconds, without progress until a guest is reported as stalled. If not set,
``sensitivity`` defines it.

Set it to at least three times ``interval``. Increase it if guests are idle for longer without
being stalled. Related options: ``sensitivity``, ``interval``.
""",
    ),
    cfg.BoolOpt(
        "guest_agent",
        default=False,
        help="""
Query the guest agent of each instance in every check.

If an agent that has responded before is silent for ``window``, the event
``liveness.guest_agent`` is reported. Enable it if your images run the QEMU guest agent. It
opens a writable connection to libvirt, regardless of ``[libvirt] read_only``.
""",
    ),
    cfg.StrOpt(
        "facts_file",
        default="$state_path/liveness.json",
        help="""
File that stores the findings currently reported, so that they are not reported again after a
restart of the agent.

Use a local disk. Related options: ``state_path``.
""",
    ),
]
