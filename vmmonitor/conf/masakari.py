# SPDX-License-Identifier: Apache-2.0
"""Options of the masakari recovery driver.

The keystoneauth options of this group are registered by ``vmmonitor.openstack``.
"""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    "masakari",
    title="masakari driver",
    help="""
Options of the recovery driver ``masakari``, which sends masakari a notification about a failed
instance. The keystoneauth options of this group configure the access to masakari.
""",
)

OPTS: list[cfg.Opt] = [
    cfg.FloatOpt(
        "poll_interval",
        default=1.0,
        min=0.1,
        max=60,
        help="""
Maximum interval, in seconds, between queries of the state of a notification. The first queries
follow faster.

Increase it to reduce the load on the masakari API.
""",
    ),
]
