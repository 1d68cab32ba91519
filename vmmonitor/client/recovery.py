# SPDX-License-Identifier: Apache-2.0
"""``recovery list`` and ``recovery show``."""

from vmmonitor.client import base


class ListRecovery(base.List):
    """List recovery attempts, newest first."""

    NOUN = "recoveries"
    COLUMNS = (
        "recovery_id",
        "created_at",
        "host",
        "instance_uuid",
        "driver",
        "attempt",
        "state",
        "message",
    )
    LONG = (
        "incident_id",
        "policy",
        "step",
        "not_before",
        "lease_owner",
        "lease_until",
        "wait_until",
        "called_at",
        "finished_at",
    )
    FILTERS = (
        base.STATE,
        ("--driver", {"help": "filter by driver (repeatable)"}),
        base.INSTANCE_OPTION,
        base.HOST_OPTION,
        base.INCIDENT_OPTION,
    )


class ShowRecovery(base.Show):
    """Show one recovery attempt."""

    NOUN = "recoveries"
