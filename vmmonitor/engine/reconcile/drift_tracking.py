# SPDX-License-Identifier: Apache-2.0
"""Keeps drift records, and reports a drift by an event when it lasts longer than its hold.

The record of a drift (since when it is seen, whether it was reported) is a row in the database: a
hold of a minute must survive the restart of an engine, and the end of a drift is reported only if
the drift was. An engine changes a row only if it is as it was read, and the id of an event follows
from the row. Engines that report the same drift at once therefore report it once, and the event of
an engine that dies before it changes the row is stored as a duplicate later.
"""

import contextlib
import dataclasses
from collections.abc import Collection
from typing import Any

from oslo_config import cfg
from oslo_log import log

from vmmonitor.db import drift_records
from vmmonitor.db.session import Database
from vmmonitor.engine.ingest.local_events import LocalEvents
from vmmonitor.engine.reconcile import drift, drift_events
from vmmonitor.model.clock import SECOND
from vmmonitor.model.drift import Drift, DriftRecord
from vmmonitor.model.errors import Conflict

LOG = log.getLogger(__name__)


class DriftTracker:
    """Updates the drift record of one instance after each comparison."""

    def __init__(self, conf: cfg.ConfigOpts, database: Database, local_events: LocalEvents):
        """Create a tracker.

        :param local_events: stores the events that report a drift.
        """
        self._conf = conf
        self._database = database
        self._local_events = local_events

    def update(
        self, result: Drift | str, record: DriftRecord | None, trusted: Collection[str], now: int
    ) -> None:
        """Update the record of an instance.

        :param result: a drift, or drift.AGREES or drift.UNKNOWN.
        :param record: the record as it was read; None if the instance has none.
        :param trusted: hosts whose inventories can be trusted.
        :param now: microseconds since the epoch, engines' clock.
        """
        if isinstance(result, Drift):
            self._update_drift(result, record, now)
        elif record is None:
            return
        elif result == drift.AGREES and set(trusted).issuperset(record.hosts):
            self._end(record)
        elif record.reported_key != record.key:
            self._forget_unreported(record)

    def _update_drift(self, found: Drift, record: DriftRecord | None, now: int) -> None:
        if record is None:
            with contextlib.suppress(Conflict):
                self._database.run(drift_records.insert, drift_events.new_record(found, now))
        elif record.key != found.key:
            self._restart(found, record, now)
        elif record.reported_key == record.key:
            return
        elif now - record.last_seen_at > self._max_gap():
            self._restart(found, record, now)
        elif now - record.first_seen_at < self._conf.reconcile.hold * SECOND:
            self._database.run(drift_records.change, record, last_seen_at=now)
        else:
            self._report(found, record)

    def _restart(self, found: Drift, record: DriftRecord, now: int) -> None:
        """Restart the hold: the drift has changed, or it was not checked for too long."""
        changes = dataclasses.asdict(drift_events.new_record(found, now))
        changes |= {"instance": found.instance}
        changes |= {"reported_key": record.reported_key, "event_id": record.event_id}
        self._database.run(drift_records.change, record, **changes)

    def _max_gap(self) -> float:
        """Return the maximum interval of the comparisons of one hold, in microseconds."""
        options = self._conf.reconcile
        return max(options.hold, 3 * options.interval) * SECOND

    def _report(self, found: Drift, record: DriftRecord) -> None:
        event = drift_events.drift_event(found, record)
        LOG.warning(
            "Drift of instance %s (%s) on host %s, event %s: %s %s",
            found.instance.uuid,
            found.instance.name,
            found.host,
            event.event_id,
            found.type,
            found.detail,
        )
        self._local_events.store([event])
        changes: dict[str, Any] = {"reported_key": record.key, "event_id": event.event_id}
        if self._database.run(drift_records.change, record, **changes):
            return
        with self._database.reader() as tx:
            current = drift_records.get(tx, record.instance.uuid)
        if current is None or current.reported_key != record.key:
            # Another engine found the end of the drift before it could know of this report.
            reported = dataclasses.replace(record, **changes)
            self._local_events.store([drift_events.end_event(reported, self._database.now())])

    def _end(self, record: DriftRecord) -> None:
        if record.reported_key:
            LOG.info(
                "Drift of instance %s is over, reported by event %s",
                record.instance.uuid,
                record.event_id,
            )
            self._local_events.store([drift_events.end_event(record, self._database.now())])
        self._database.run(drift_records.delete, record)

    def _forget_unreported(self, record: DriftRecord) -> None:
        """Forget a drift that is not visible now, so that its hold restarts."""
        if record.reported_key:
            self._database.run(drift_records.change, record, key=record.reported_key)
        else:
            self._database.run(drift_records.delete, record)
