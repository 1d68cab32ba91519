# SPDX-License-Identifier: Apache-2.0
"""The second net: finds what no event told of, by holding what should be against what is.

    expectation --survey()--> what should be --.
                                                >-- compare -- seen twice, a hold apart? -- event
    agents' inventories ----> what is ---------'                    `--- table drift_records

Every engine does this by itself. What is remembered of a mismatch (since when it is seen, which
was told) is a row in the database, because a hold of a minute must survive the restart of an
engine, and the end of a mismatch can only be told by who knows that it was told. A row is changed
only as it was read, and the id of an event follows from the row: engines that tell the same thing
at once tell it once, and one that dies between the event and the row tells it again in vain.
"""

import contextlib
import dataclasses
import threading
import uuid
from collections.abc import Callable, Sequence

from oslo_config import cfg
from oslo_log import log

from vmmonitor.db import drift_records
from vmmonitor.db.session import Database
from vmmonitor.engine.reconcile import drift
from vmmonitor.engine.reconcile.observed import ObservedState
from vmmonitor.expectation import Expectation
from vmmonitor.model.desired import DesiredState, DesiredStatus
from vmmonitor.model.drift import Drift, DriftRecord
from vmmonitor.model.errors import Conflict, Retriable
from vmmonitor.model.event import AGREES_AGAIN, RECONCILE_SOURCE, RawEvent
from vmmonitor.model.observed import ObservedInstance

LOG = log.getLogger(__name__)

#: Makes the ids of events; any fixed value would do.
NAMESPACE = uuid.UUID("5f1d9a3e-6f0b-4c7e-9d57-2f6f5f1b8a10")
SECOND = 1_000_000
#: Microseconds after which everything is asked for again, and not only what changed.
WHOLE = 3600 * SECOND
#: Seconds after which somebody may have turned it on.
OFF = 5.0


class Reconciler:
    """One round now and then, in every engine."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        expectation: Expectation,
        store: Callable[[Sequence[RawEvent]], None],
    ):
        """Keep the parts; start nothing.

        :param store: stores events; returns after the commit (``LocalSources.store``).
        """
        self._conf = conf
        self._database = database
        self._expectation = expectation
        self._store = store
        self._observed = ObservedState(database)
        self._expected: dict[str, DesiredState] = {}
        self._since: int | None = None
        self._whole_at = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reconcile", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """End after the step that is under way; at most ``timeout`` seconds."""
        self._stopping.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopping.wait(self._conf.reconcile.interval or OFF):
            if not self._conf.reconcile.interval:
                continue
            try:
                self.compare()
            except Retriable as error:
                LOG.warning("Reconciliation is put off: %s", error)
            except Exception:
                LOG.exception("Reconciliation failed")

    # -- a round -------------------------------------------------------------------------------
    def compare(self) -> None:
        """Hold everything against what should be, and tell what differs for long enough.

        :raises vmmonitor.model.errors.Retriable: the database is away, or the expectation
            cannot tell.
        """
        # First what is: what should be is newer then, and says that something is being done to
        # an instance at the latest when that can be seen.
        self._observed.look(self._conf.housekeeping.late_after)
        self._ask()
        sights = self._observed.sights()
        with self._database.reader() as tx:
            noted = {one.instance.uuid: one for one in drift_records.all(tx)}
        self._forget_gone(sights)
        twice = {instance_uuid for instance_uuid, several in sights.items() if len(several) > 1}
        now = self._database.now()
        for instance_uuid in self._expected.keys() | noted.keys() | twice:
            if self._stopping.is_set():
                return
            word = self._word(instance_uuid, sights.get(instance_uuid, ()))
            self._settle(word, noted.get(instance_uuid), now)

    def _ask(self) -> None:
        """Learn what should be."""
        now = self._database.now()
        if now - self._whole_at > WHOLE:
            self._since = None
        since, self._since = self._since, None
        survey = self._expectation.survey(since, self._observed.trusted_instances())
        if since is None:
            self._whole_at = now
        if survey.whole:
            self._expected = {}
        self._expected |= {one.instance.uuid: one for one in survey.states}
        self._since = survey.until

    def _forget_gone(self, sights: dict[str, list[ObservedInstance]]) -> None:
        gone = [
            key
            for key, one in self._expected.items()
            if one.state == DesiredStatus.GONE and key not in sights
        ]
        for key in gone:
            del self._expected[key]

    def _word(self, instance_uuid: str, sights: Sequence[ObservedInstance]) -> Drift | str:
        if instance_uuid in self._observed.unconfirmed:
            return drift.UNKNOWN
        expected = self._expected.get(instance_uuid)
        return drift.compare(expected, sights, self._observed.trusted)

    # -- one instance --------------------------------------------------------------------------
    def _settle(self, word: Drift | str, noted: DriftRecord | None, now: int) -> None:
        if isinstance(word, Drift):
            self._differs(word, noted, now)
        elif noted is None:
            return
        elif word == drift.AGREES and self._observed.trusted.issuperset(noted.hosts):
            self._is_over(noted)
        elif noted.reported_key != noted.key:
            self._forget_untold(noted)

    def _differs(self, word: Drift, noted: DriftRecord | None, now: int) -> None:
        if noted is None:
            with contextlib.suppress(Conflict):
                self._database.run(drift_records.insert, _new(word, now))
        elif noted.key != word.key:
            self._begin(word, noted, now)
        elif noted.reported_key == noted.key:
            return
        elif now - noted.last_seen_at > self._patience():
            self._begin(word, noted, now)
        elif now - noted.first_seen_at < self._conf.reconcile.hold * SECOND:
            self._database.run(drift_records.change, noted, last_seen_at=now)
        else:
            self._tell(word, noted)

    def _begin(self, word: Drift, noted: DriftRecord, now: int) -> None:
        """The instance differs in another way than before, or was not looked at for long."""
        changes = dataclasses.asdict(_new(word, now))
        changes |= {"instance": word.instance}
        changes |= {"reported_key": noted.reported_key, "event_id": noted.event_id}
        self._database.run(drift_records.change, noted, **changes)

    def _patience(self) -> float:
        """Return microseconds after which what was seen once does not count any more."""
        options = self._conf.reconcile
        return max(options.hold, 3 * options.interval) * SECOND

    def _tell(self, word: Drift, noted: DriftRecord) -> None:
        event_id = _id(f"{noted.instance.uuid} {noted.key} {noted.first_seen_at}")
        LOG.warning(
            "Instance %s (%s) is not as it should be: %s %s on host %s",
            *(word.instance.uuid, word.instance.name, word.type, word.detail, word.host),
        )
        self._store([_event(word, noted, event_id)])
        told = dataclasses.replace(noted, reported_key=noted.key, event_id=event_id)
        if self._database.run(
            drift_records.change, noted, reported_key=told.reported_key, event_id=event_id
        ):
            return
        with self._database.reader() as tx:
            current = drift_records.get(tx, noted.instance.uuid)
        if current is None or current.reported_key != told.reported_key:
            # Meanwhile another engine saw that it is over, and did not know that it was told.
            self._store([_over(told, self._database.now())])

    def _is_over(self, noted: DriftRecord) -> None:
        if noted.reported_key:
            LOG.info("Instance %s is as it should be again", noted.instance.uuid)
            self._store([_over(noted, self._database.now())])
        self._database.run(drift_records.delete, noted)

    def _forget_untold(self, noted: DriftRecord) -> None:
        """What was seen once and cannot be seen now begins anew."""
        if noted.reported_key:
            self._database.run(drift_records.change, noted, key=noted.reported_key)
        else:
            self._database.run(drift_records.delete, noted)


def _new(word: Drift, now: int) -> DriftRecord:
    return DriftRecord(
        instance=word.instance,
        host=word.host,
        hosts=word.hosts,
        key=word.key,
        first_seen_at=now,
        last_seen_at=now,
    )


def _event(word: Drift, noted: DriftRecord, event_id: str) -> RawEvent:
    return RawEvent(
        source=RECONCILE_SOURCE,
        type=word.type,
        detail=word.detail,
        occurred_at=noted.first_seen_at,
        instance=word.instance,
        attributes={"hosts": list(word.hosts), **word.facts},
        host=word.host,
        event_id=event_id,
    )


def _over(told: DriftRecord, now: int) -> RawEvent:
    return RawEvent(
        source=RECONCILE_SOURCE,
        type=AGREES_AGAIN,
        detail=told.reported_key.partition(" ")[0].removeprefix("reconcile."),
        occurred_at=now,
        instance=told.instance,
        attributes={"hosts": list(told.hosts), "told_by": told.event_id},
        host=told.host,
        event_id=_id(f"{told.event_id} over"),
    )


def _id(text: str) -> str:
    return str(uuid.uuid5(NAMESPACE, text))
