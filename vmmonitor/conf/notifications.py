# SPDX-License-Identifier: Apache-2.0
"""Options of the notifications that vmmonitor sends."""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    "notifications",
    title="Notifications",
    help="""
Options of the notifications that vmmonitor sends to other services, such as ceilometer and
aodh, about each state change of an incident or a recovery.
""",
)

OPTS = [
    cfg.BoolOpt(
        "enabled",
        default=False,
        help="""
Send a notification on the message bus for each state change of an incident or a recovery.

Use the same value on every engine. Enable it only if a consumer exists: without one, the
notifications fill a queue of the broker. Group ``[oslo_messaging_notifications]`` defines the
driver (``messagingv2`` unless set), the topics and the broker (by default the service's own).
""",
    ),
    cfg.IntOpt(
        "keep",
        default=100000,
        min=1,
        mutable=True,
        help="""
Maximum number of notifications that wait in the database while the broker is unavailable. At
the limit the oldest are dropped, and the log shows how many.

Increase it to lose fewer notifications in a long outage of the broker. Related options:
``keep_seconds``.
""",
    ),
    cfg.IntOpt(
        "keep_seconds",
        default=86400,
        min=1,
        mutable=True,
        help="""
Maximum time, in seconds, that a notification waits in the database. After it the notification
is dropped, and the log shows how many were dropped.

Decrease it if consumers have no use for old notifications. Related options: ``keep``.
""",
    ),
]
