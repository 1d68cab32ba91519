# SPDX-License-Identifier: Apache-2.0
"""Options of the agent on each compute host."""

from oslo_config import cfg

GROUP = "agent"

OPTS = [
    cfg.ListOpt(
        "sources",
        default=["libvirt", "process", "liveness"],
        help="""
What to watch on this host: entry points of ``vmmonitor.sources``.

``process`` knows within milliseconds that a QEMU process has ended, also while libvirtd is away.
``liveness`` finds what hangs without a word. Add ``qmp`` to hear QEMU's own words on disk errors;
it needs a connection to libvirt that may write, whatever ``[libvirt] read_only`` says. Any
installed source can be added. Keep ``libvirt``: the others learn from it which instances run.
Each one is started at the agent's start; an unknown name stops the agent with an error.
""",
    ),
    cfg.StrOpt(
        "filter_file",
        default="",
        help="""
YAML file with the rules that decide which events are ignored, recorded or recovered.

Empty: ``event_filters.yaml`` beside the configuration file, or the shipped rules if there is
none. SIGHUP reads it again; a broken file is refused and the old rules stay in force.
``vmmonitor-manage filter check FILE`` tells beforehand.
""",
    ),
    cfg.FloatOpt(
        "report_interval",
        default=10.0,
        min=0.2,
        max=3600,
        mutable=True,
        help="""
Seconds between two reports of the agent's own state to the engine.

Changes of the state are reported at once, whatever this says. Shorten it to notice a dead agent
sooner, lengthen it with thousands of hosts. Related options: ``[housekeeping] late_after``.
""",
    ),
    cfg.BoolOpt(
        "allow_recovery",
        default=False,
        help="""
Let the engine start, reset and resume instances on this host through this agent (the ``libvirt``
recovery driver).

Needs write access to libvirt. Leave it off where nova or masakari does the recovery.
""",
    ),
    cfg.StrOpt(
        "going_down_file",
        default="/run/nologin",
        help="""
A file that is there while the host shuts down, as systemd's ``/run/nologin`` is.

What stops then gets the attribute ``host_going_down``; the shipped rules only record it. Empty:
nothing is known of a shutdown, and each instance that the host ends is taken for a failure.
""",
    ),
    cfg.IntOpt(
        "behind_mark",
        default=1000,
        min=1,
        mutable=True,
        help="""
Number of spooled events above which the agent calls itself ``behind``.

Raise it where bursts of events are normal. Related options: ``[spool] max_events``.
""",
    ),
    cfg.IntOpt(
        "forget_after",
        default=86400,
        min=60,
        mutable=True,
        help="""
Seconds for which an instance that is gone from its host is remembered, so that a late question
about it can still be answered and a transient one can be started again.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register this group's options on ``conf``."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return (group, options), for the sample file."""
    return [(GROUP, OPTS)]
