# SPDX-License-Identifier: Apache-2.0
"""Options of the engine."""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    "engine",
    title="Engine",
    help="""
Options of ``vmmonitor-engine``. It stores events, groups them into incidents and recovers
instances. The engines of a deployment are equal, active and share the work.
""",
)

OPTS = [
    cfg.IntOpt(
        "workers",
        default=1,
        min=1,
        max=64,
        help="""
Number of engine processes on this host.

One process stores thousands of events per second. Increase the number if events wait in the
spools of the agents although the database has capacity.
""",
    ),
    cfg.StrOpt(
        "expectation",
        default="libvirt",
        help="""
Source of the desired state of instances, by its name in the entry point group
``vmmonitor.expectation``. Its verdict decides whether an incident is a failure or was planned.

``libvirt`` derives the verdict from the cause that libvirt reported and needs no OpenStack
service. Set it to ``nova`` in every OpenStack cloud; group ``[nova]`` then needs credentials.
""",
    ),
    cfg.ListOpt(
        "sources",
        default=[],
        help="""
Event sources to start in the engine, by their names in the entry point group
``vmmonitor.sources``. An unknown name stops the engine with an error.

Use it for sources that do not belong to one host, such as ``nova_notifications``. Configure
sources that watch one host in ``[agent] sources``. If empty, no source is started.
""",
    ),
    cfg.StrOpt(
        "filter_file",
        default="",
        help="""
Path of the YAML file with the event filters for events that originate in the engine: from
reconciliation and from ``sources``. Events of hosts were filtered by their agent and are not
filtered again.

If empty, ``[agent] filter_file`` is used, else ``event_filters.yaml`` in the directory of the
configuration file, or the shipped filters if that file does not exist. SIGHUP reloads the file;
an invalid file is rejected and the filters in force are kept. Related options: ``sources``.
""",
    ),
    cfg.IntOpt(
        "commit_events",
        default=2000,
        min=1,
        max=20000,
        help="""
Maximum number of events in one database transaction. Events that arrive during a commit share
the next one.

Decrease it if the database limits the size of a transaction. The default value is fine for most
deployments.
""",
    ),
    cfg.FloatOpt(
        "store_timeout",
        default=8.0,
        min=0.1,
        max=600,
        help="""
Maximum time, in seconds, to store the events of one call. On timeout the call fails, and the
agent keeps the events and sends them again.

Keep it below ``[forwarder] reply_timeout``. Increase both if the database is slow.
""",
    ),
]
