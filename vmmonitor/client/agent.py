# SPDX-License-Identifier: Apache-2.0
"""``agent list`` and ``agent show``."""

from vmmonitor.client import base


class ListAgent(base.List):
    """List agents: which hosts are watched, and which are not."""

    NOUN = "agents"
    COLUMNS = (
        "host",
        "state",
        "reason",
        "seen_at",
        "instances",
        "spool_depth",
        "spool_refused",
        "version",
    )
    LONG = (
        "interval",
        "started_at",
        "sent_at",
        "last_event_at",
        "filter_checksum",
        "inventory_digest",
        "figures",
    )
    FILTERS = (("--state", {"help": "only in this state; may be repeated"}), base.HOST)
    TIMES = False


class ShowAgent(base.Show):
    """Show one agent."""

    NOUN = "agents"
    ARGUMENT = "host"
