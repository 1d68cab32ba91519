# SPDX-License-Identifier: Apache-2.0
"""Define the drift of an instance: the difference between its desired and its observed state."""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

from vmmonitor.model.instance import Instance

#: Maximum number of characters of ``Drift.key``.
KEY_LENGTH = 255


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """One instance whose observed state is not the desired one.

    :param host: the host that this is about.
    :param hosts: all hosts whose reports show it.
    :param type: ``reconcile.missing`` and so on.
    :param detail: its observed state, in libvirt's words; empty if it is not present.
    :param desired: a ``DesiredStatus``; empty without a desired state.
    :param facts: further facts for the operator; JSON values. They do not identify the drift.
    """

    instance: Instance
    host: str
    hosts: tuple[str, ...]
    type: str
    detail: str
    desired: str
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def key(self) -> str:
        """The identity of the drift: a drift with another key is another drift."""
        text = " ".join((self.type, self.detail or "-", self.desired or "-", *self.hosts))
        if len(text) <= KEY_LENGTH:
            return text
        return f"{text[:190]} {hashlib.sha256(text.encode()).hexdigest()}"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DriftRecord:
    """The stored drift of an instance.

    Times are microseconds since the epoch, engines' clock.

    :param key: ``Drift.key``.
    :param hosts: ``Drift.hosts``.
    :param first_seen_at: since when it is observed without a break.
    :param last_seen_at: updated until an event reports the drift.
    :param reported_key: key of the drift of this instance that an event reported last, and whose
        end was not reported yet.
    :param event_id: id of that event.
    """

    instance: Instance
    host: str
    hosts: tuple[str, ...]
    key: str
    first_seen_at: int
    last_seen_at: int
    reported_key: str = ""
    event_id: str = ""
