# SPDX-License-Identifier: Apache-2.0
"""Options of the nova expectation and the nova recovery driver.

The keystoneauth options of this group are registered by ``vmmonitor.openstack``, so that processes
that do not use nova do not load that library.
"""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    "nova",
    title="nova",
    help="""
Options of the expectation ``nova`` (``[engine] expectation``) and of the recovery driver
``nova``: which servers are recovered, and the keystoneauth options of the access to nova.

The setting of a server is taken from the first of these that has one: server metadata, flavor,
image, host aggregate, project, ``recover_by_default``.
""",
)

OPTS = [
    cfg.StrOpt(
        "metadata_key",
        default="HA_Enabled",
        help="""
Key of the server metadata that enables or disables recovery of the server. Its value is a
boolean, such as ``true`` or ``false``. If empty, server metadata is not used.

Related options: ``recover_by_default``, ``flavor_key``, ``image_key``, ``aggregate_key``.
""",
    ),
    cfg.BoolOpt(
        "recover_by_default",
        default=True,
        help="""
Recover servers that have no setting in their metadata, flavor, image, host aggregate or
project.

Set it to false to recover only servers that request recovery, as masakari does by default.
Related options: ``metadata_key``, ``flavor_key``, ``image_key``, ``aggregate_key``,
``recover_projects``, ``ignore_projects``.
""",
    ),
    cfg.StrOpt(
        "flavor_key",
        default="vmmonitor:recover",
        help="""
Extra spec of a flavor that enables or disables recovery of its servers. It applies to servers
without a setting in their metadata. If empty, flavors are not used.

Related options: ``metadata_key``.
""",
    ),
    cfg.StrOpt(
        "image_key",
        default="",
        help="""
Property of an image that enables or disables recovery of servers booted from it. It applies to
servers without a setting in their metadata or flavor. If empty, images are not used.

If you set it, glance is queried (group ``[glance]``); while glance does not respond, the
verdict for such servers is ``unknown``. Related options: ``metadata_key``, ``flavor_key``.
""",
    ),
    cfg.StrOpt(
        "aggregate_key",
        default="",
        help="""
Metadata key of a host aggregate that enables or disables recovery of servers on its hosts. It
applies to servers without a setting in their metadata, flavor or image. If empty, host
aggregates are not used.

If the aggregates of a host disagree, its servers are not recovered. Related options:
``metadata_key``, ``flavor_key``, ``image_key``.
""",
    ),
    cfg.ListOpt(
        "recover_projects",
        default=[],
        help="""
Ids of projects whose servers are recovered. It applies to servers without a more specific
setting.

Use it together with ``recover_by_default = false``. Related options: ``recover_by_default``,
``ignore_projects``.
""",
    ),
    cfg.ListOpt(
        "ignore_projects",
        default=[],
        help="""
Ids of projects whose servers are not recovered. It applies to servers without a more specific
setting, and takes precedence over ``recover_projects``.

Related options: ``recover_projects``, ``recover_by_default``.
""",
    ),
    cfg.StrOpt(
        "priority_key",
        default="vmmonitor:priority",
        help="""
Key of the server metadata that defines the priority of the server: an integer from -100 to 100.
Queued recoveries with a higher priority start first. If empty, priorities are not used.

Every user who can change a server can set its priority. Set the option to empty if users must
not influence the order. Related options: ``[limits] max_recoveries``.
""",
    ),
    cfg.BoolOpt(
        "respect_disabled",
        default=True,
        help="""
Treat a host whose nova-compute service is disabled as in maintenance: its failures are silenced
until the service is enabled.

A service that vmmonitor disabled, or that is only down, does not count as maintenance. Set the
option to false to recover servers of disabled hosts too. Related options: ``[recovery]
maintenance_interval``.
""",
    ),
    cfg.BoolOpt(
        "recover_locked",
        default=True,
        help="""
Recover servers that are locked in nova.

Set it to false if your users lock a server to prevent every change to it, including recovery.
""",
    ),
    cfg.IntOpt(
        "page_size",
        default=500,
        min=1,
        max=100000,
        help="""
Number of servers to request at once when all servers are listed. Nova returns at most its own
``[api] max_limit``.

Decrease it if responses of nova time out.
""",
    ),
]
