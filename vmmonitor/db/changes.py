# SPDX-License-Identifier: Apache-2.0
"""Gathers what a transaction changes, for whoever is to be told of it, in that transaction."""

from collections.abc import Sequence
from typing import Protocol

import sqlalchemy

from vmmonitor.model.incident import Incident
from vmmonitor.model.notification import Change
from vmmonitor.model.recovery import Recovery

#: Option of a connection: the list of its transaction's changes; None: nobody wants to know.
GATHERED = "vmmonitor_changes"


class Outbox(Protocol):
    """Who is told."""

    def write(self, tx: sqlalchemy.Connection, changes: Sequence[Change]) -> None:
        """Write down, at the end of the transaction, what is to be told of its changes."""

    def written(self) -> None:
        """Know that such a transaction was committed; called in its thread, returns at once."""


def note(
    tx: sqlalchemy.Connection,
    before: Incident | Recovery | None,
    after: Incident | Recovery,
    at: int,
) -> None:
    """Remember a change until the end of the transaction, if anybody wants to know.

    :param before: None if it is new.
    :param at: microseconds since the epoch.
    """
    gathered = tx.get_execution_options().get(GATHERED)
    if gathered is not None:
        gathered.append(Change(before=before, after=after, at=at))
