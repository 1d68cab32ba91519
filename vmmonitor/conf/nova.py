# SPDX-License-Identifier: Apache-2.0
"""The nova expectation and the nova driver. keystoneauth's options of this group are registered by
whoever asks nova, so that nobody else needs that library in memory."""

from oslo_config import cfg

GROUP = "nova"

OPTS = [
    cfg.StrOpt(
        "metadata_key",
        default="HA_Enabled",
        help="""
Key of a server's metadata by which its owner says whether it is to be recovered: ``true`` or
``false`` in any spelling of oslo.utils. Empty: metadata does not count. Related options:
``recover_by_default``.
""",
    ),
    cfg.BoolOpt(
        "recover_by_default",
        default=True,
        help="""
Whether servers are recovered of which nothing says whether they are to be. False: only those that
ask for it, as masakari does by default. Related options: ``metadata_key``, ``flavor_key``,
``image_key``, ``aggregate_key``, ``recover_projects``, ``ignore_projects``.
""",
    ),
    cfg.StrOpt(
        "flavor_key",
        default="vmmonitor:recover",
        help="""
Extra spec of a flavor that says the same for its servers, where their metadata does not. Empty:
flavors do not count.
""",
    ),
    cfg.StrOpt(
        "image_key",
        default="",
        help="""
Property of an image that says the same for servers booted from it, where neither their metadata
nor their flavor does. Glance is asked for it (group ``glance``), and as long as it does not
answer, nobody knows whether such a server is to be recovered. Empty: images do not count, and
glance is not asked.
""",
    ),
    cfg.StrOpt(
        "aggregate_key",
        default="",
        help="""
Metadata of a host aggregate that says the same for servers on its hosts, where neither their
metadata, flavor nor image does. Where the aggregates of a host differ, its servers are left alone.
Empty: aggregates do not count.
""",
    ),
    cfg.ListOpt(
        "recover_projects",
        default=[],
        help="""
Ids of projects whose servers are recovered, where nothing more precise says otherwise. Related
options: ``recover_by_default``.
""",
    ),
    cfg.ListOpt(
        "ignore_projects",
        default=[],
        help="""
Ids of projects whose servers are left alone, where nothing more precise says otherwise. It counts
more than ``recover_projects``.
""",
    ),
    cfg.StrOpt(
        "priority_key",
        default="vmmonitor:priority",
        help="""
Key of a server's metadata that says how important it is: a whole number from -100 to 100. Of
several that wait for recovery the greater comes first. Anybody who may change the server can say
so. Empty: all are alike.
""",
    ),
    cfg.BoolOpt(
        "respect_disabled",
        default=True,
        help="""
Whether a host whose nova-compute is disabled is in maintenance: failures there are recorded and
silenced until it is enabled. One that vmmonitor itself disabled is not, nor one that is only down.
""",
    ),
    cfg.BoolOpt(
        "recover_locked",
        default=True,
        help="""
Whether servers that are locked in nova are recovered. False: somebody who locks a server has it
left alone.
""",
    ),
    cfg.IntOpt(
        "page_size",
        default=500,
        min=1,
        max=100000,
        help="""
Number of servers to ask for at a time when all are listed. Nova gives no more than its own
``[api] max_limit``.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register this group's options on ``conf``."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return (group, options), for the sample file."""
    return [(GROUP, OPTS)]
