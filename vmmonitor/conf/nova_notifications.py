# SPDX-License-Identifier: Apache-2.0
"""Options of the nova_notifications source."""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    "nova_notifications",
    title="nova_notifications source",
    help="""
Options of the engine's source ``nova_notifications``, which turns notifications of nova into
events. Enable it in ``[engine] sources``.
""",
)

OPTS = [
    cfg.StrOpt(
        "transport_url",
        default="",
        secret=True,
        help="""
Transport URL of the broker that receives nova's notifications: nova's
``[oslo_messaging_notifications] transport_url`` or, if that is not set, nova's
``transport_url``.

If empty, the ``transport_url`` of this service is used. Set it if nova uses another broker or
virtual host.
""",
    ),
    cfg.StrOpt(
        "exchange",
        default="nova",
        help="""
Exchange of nova's notifications: nova's ``control_exchange``.

Change it only if nova's option is changed.
""",
    ),
    cfg.ListOpt(
        "topics",
        default=["versioned_notifications"],
        help="""
Notification topics to consume: ``versioned_notifications`` for nova's ``[notifications]
versioned_notifications_topics``, or ``notifications`` for the legacy format.

Use only one of the two: otherwise each notification is stored as two events.
""",
    ),
    cfg.StrOpt(
        "pool",
        default="vmmonitor-nova-notifications",
        help="""
Name of the listener pool, and so of the queue in the broker. The engines share it. Other
consumers, such as ceilometer, get their own copy of each notification if they use another name.

Change it to run two deployments of vmmonitor on one broker. If you stop using this source,
delete the queue: otherwise the broker continues to fill it.
""",
    ),
]
