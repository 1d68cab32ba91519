# SPDX-License-Identifier: Apache-2.0
"""Define the notifications about incidents and recoveries that other services receive."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from vmmonitor.model.incident import Incident
from vmmonitor.model.recovery import Recovery


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A change of an incident or a recovery in one transaction.

    :param before: None if it is new.
    :param at: microseconds since the epoch, engines' clock.
    """

    before: Incident | Recovery | None
    after: Incident | Recovery
    at: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Notification:
    """One notification in the outbox.

    :param number: ascending number; 0 until the notification is stored.
    :param incident_id: notifications of one incident are sent in the order of their numbers.
    :param event_type: for example ``vmmonitor.incident.resolved``.
    :param priority: ``info`` or ``error``.
    :param created_at: microseconds since the epoch, engines' clock.
    """

    number: int = 0
    incident_id: str
    event_type: str
    priority: str
    payload: Mapping[str, Any]
    created_at: int
