# SPDX-License-Identifier: Apache-2.0
"""Options of the notifications that vmmonitor sends."""

from oslo_config import cfg

GROUP = "notifications"

OPTS = [
    cfg.BoolOpt(
        "enabled",
        default=False,
        help="""
Tell other services, such as ceilometer and aodh, of each state that an incident or a recovery
enters, by notifications on the message bus.

Say the same in every engine. The group ``[oslo_messaging_notifications]`` says by what ``driver``
(here ``messagingv2`` unless it is set), on which ``topics``, and to which broker
(``transport_url``; by default the service's own). Where nobody consumes them, they fill a queue
of the broker's.
""",
    ),
    cfg.IntOpt(
        "keep",
        default=100000,
        min=1,
        mutable=True,
        help="""
Greatest number of notifications that wait in the database while no broker takes them. The oldest
beyond it are dropped, and counted in the log.
""",
    ),
    cfg.IntOpt(
        "keep_seconds",
        default=86400,
        min=1,
        mutable=True,
        help="""
Seconds for which a notification may wait in the database; then it is dropped, and counted in the
log. Related options: ``keep``.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register this group's options on ``conf``."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return (group, options), for the sample file."""
    return [(GROUP, OPTS)]
