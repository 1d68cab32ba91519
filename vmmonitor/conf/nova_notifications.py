# SPDX-License-Identifier: Apache-2.0
"""Options of the nova_notifications source."""

from oslo_config import cfg

GROUP = "nova_notifications"

OPTS = [
    cfg.StrOpt(
        "transport_url",
        default="",
        secret=True,
        help="""
Address of the broker on which nova sends its notifications: the same as in nova's
``transport_url``, or in ``[oslo_messaging_notifications] transport_url`` where nova has it. Empty:
the service's own ``transport_url``.
""",
    ),
    cfg.StrOpt(
        "exchange",
        default="nova",
        help="""
Exchange on which nova sends: nova's ``control_exchange``.
""",
    ),
    cfg.ListOpt(
        "topics",
        default=["versioned_notifications"],
        help="""
Topics to listen to. ``versioned_notifications`` is nova's ``[notifications]
versioned_notifications_topics``; for the legacy form it is ``notifications``. Name one of the two:
what nova tells in both forms becomes two events.
""",
    ),
    cfg.StrOpt(
        "pool",
        default="vmmonitor-nova-notifications",
        help="""
Name of the queue in which the messages wait. All engines share it. Others who listen to nova, such
as ceilometer, keep a copy of their own as long as they do not use the same name. When this source
is taken out of use, delete the queue: the broker fills it for as long as it is there.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register this group's options on ``conf``."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return (group, options), for the sample file."""
    return [(GROUP, OPTS)]
