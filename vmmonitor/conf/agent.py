# SPDX-License-Identifier: Apache-2.0
"""Options of the agent on each compute host."""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    "agent",
    title="Agent",
    help="""
Options of ``vmmonitor-agent``, which runs on each compute host. It watches the instances of the
host, filters their events and sends them to an engine.
""",
)

OPTS = [
    cfg.ListOpt(
        "sources",
        default=["libvirt", "process", "liveness"],
        help="""
Event sources to start on this host, by their names in the entry point group
``vmmonitor.sources``. An unknown name stops the agent with an error.

``libvirt`` is required: the other sources get the list of running instances from it.
``process`` reports the end of a QEMU process within milliseconds, also while libvirtd is down.
``liveness`` detects instances that hang without an event. Add ``qmp`` for the disk errors that
QEMU reports itself; it opens a writable connection to libvirt, regardless of ``[libvirt]
read_only``. You can add any other installed source.
""",
    ),
    cfg.StrOpt(
        "filter_file",
        default="",
        help="""
Path of the YAML file with the event filters. They decide for each event whether it is ignored,
recorded, or opens an incident.

If empty, ``event_filters.yaml`` in the directory of the configuration file is used, or the
shipped filters if that file does not exist. SIGHUP reloads the file; an invalid file is
rejected and the filters in force are kept. Check a file with ``vmmonitor-manage filter check
FILE`` before you reload. Related options: ``[engine] filter_file``.
""",
    ),
    cfg.FloatOpt(
        "report_interval",
        default=10.0,
        min=0.2,
        max=3600,
        mutable=True,
        help="""
Interval, in seconds, between reports of the agent to the engine. A change of the state is
reported immediately.

Decrease it to detect a failed agent sooner. Increase it with thousands of hosts. Related
options: ``[housekeeping] late_after``.
""",
    ),
    cfg.BoolOpt(
        "allow_recovery",
        default=False,
        help="""
Allow the engine to start, reset and resume instances of this host through the agent.

Set it to true for the ``libvirt`` recovery driver; the agent then needs write access to
libvirt. If false, the agent refuses such requests. Keep false if nova or masakari recovers the
instances.
""",
    ),
    cfg.StrOpt(
        "going_down_file",
        default="/run/nologin",
        help="""
Path of a file that exists while the host shuts down. Instances that stop during that time get
the event attribute ``host_going_down``, and the shipped filters only record these events.

If empty, a shutdown of the host is not detected, and each instance that it stops is reported as
a failure. The default is created by systemd; change it only with another init system.
""",
    ),
    cfg.StrOpt(
        "machine_id_file",
        default="/etc/machine-id",
        help="""
Path of the file with the id of this machine. Each report contains the id, so that the engine
detects two machines whose agents use the same host name; then it performs no recovery on them.

In a container, mount the file of the host. If empty, the report has no machine id, and only the
boot id of the kernel distinguishes machines. Related options: ``boot_id_file``,
``[DEFAULT] host``.
""",
    ),
    cfg.StrOpt(
        "boot_id_file",
        default="/proc/sys/kernel/random/boot_id",
        help="""
Path of the file with the id of the current run of the kernel. It distinguishes machines that were
copied from one image and have the same machine id.

If empty, the report has no boot id. The default value is fine for all deployments. Related
options: ``machine_id_file``.
""",
    ),
    cfg.IntOpt(
        "behind_mark",
        default=1000,
        min=1,
        mutable=True,
        help="""
Number of spooled events above which the agent reports the state ``behind``.

Increase it if bursts of events are normal on your hosts. Related options: ``[spool]
max_events``.
""",
    ),
    cfg.IntOpt(
        "forget_after",
        default=86400,
        min=60,
        mutable=True,
        help="""
Time, in seconds, that the agent remembers an instance after it disappeared from the host. A
transient instance can be created again only within this time.

Increase it if incidents of transient instances may wait longer than a day. The default value is
fine for most deployments.
""",
    ),
]
