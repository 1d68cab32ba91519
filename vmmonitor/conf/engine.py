# SPDX-License-Identifier: Apache-2.0
"""Options of the engine."""

from oslo_config import cfg

GROUP = "engine"

OPTS = [
    cfg.IntOpt(
        "workers",
        default=1,
        min=1,
        max=64,
        help="""
Number of engine processes on this host. All are alike and all are active; so are those on other
hosts. One stores thousands of events per second.
""",
    ),
    cfg.StrOpt(
        "expectation",
        default="libvirt",
        help="""
Who knows what an instance should be doing: an entry point of ``vmmonitor.expectation``.
``libvirt`` goes by the cause that libvirt gave, and needs no OpenStack. ``nova`` asks nova, as
``[nova]`` says; use it wherever there is one.
""",
    ),
    cfg.ListOpt(
        "sources",
        default=[],
        help="""
What to listen to in the engine: entry points of ``vmmonitor.sources`` that watch no host but
something that all hosts share. An unknown name stops the engine with an error. What watches a
host belongs into ``[agent] sources``.
""",
    ),
    cfg.StrOpt(
        "filter_file",
        default="",
        help="""
YAML file with the rules for what is noticed in the engine itself: what reconciliation finds, and
what ``sources`` tell. Events from hosts were decided on there, and are not decided on again.

Empty: ``[agent] filter_file``, else ``event_filters.yaml`` beside the configuration file, or the
shipped rules if there is none. SIGHUP reads it again; a broken file is refused.
""",
    ),
    cfg.IntOpt(
        "commit_events",
        default=2000,
        min=1,
        max=20000,
        help="""
Greatest number of events in one database transaction. Calls that arrive while a commit is under
way share the next one. Lower it if the database limits the size of a transaction.
""",
    ),
    cfg.FloatOpt(
        "store_timeout",
        default=8.0,
        min=0.1,
        max=600,
        help="""
Seconds after which a call whose events could not be stored is answered with an error; the agent
keeps them and sends them again. Keep it under ``[forwarder] reply_timeout``.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register this group's options on ``conf``."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return (group, options), for the sample file."""
    return [(GROUP, OPTS)]
