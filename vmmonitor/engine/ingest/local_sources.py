# SPDX-License-Identifier: Apache-2.0
"""Runs the sources of events that an engine has itself, such as nova's notifications."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from oslo_config import cfg
from oslo_log import log

from vmmonitor import plugins
from vmmonitor.batch_queue import BatchQueue
from vmmonitor.engine.ingest.local_events import LocalEvents
from vmmonitor.model.errors import Retriable
from vmmonitor.model.event import Observation, RawEvent, Reachability
from vmmonitor.rpc.event_wire import Delivery

LOG = log.getLogger(__name__)

#: Maximum number of queued observations; a source waits while the queue is full.
MAX_QUEUED = 10_000
#: Maximum number of observations that are stored together.
_MAX_BATCH = 500
#: Delay before events that could not be stored are stored again, in seconds.
RETRY_INTERVAL = 1.0

#: A source plug-in: takes the configuration and the function that receives its observations.
SourceClass = Callable[[cfg.ConfigOpts, Callable[[Observation], None]], Any]


def load_classes(conf: cfg.ConfigOpts) -> dict[str, SourceClass]:
    """Return the source plug-ins that ``[engine] sources`` names.

    :raises vmmonitor.plugins.NotInstalled: one of them is not installed.
    """
    return {name: plugins.load("vmmonitor.sources", name) for name in conf.engine.sources}


class LocalSources:
    """Starts the sources, and stores their events in a thread of its own."""

    def __init__(
        self, conf: cfg.ConfigOpts, classes: Mapping[str, SourceClass], local_events: LocalEvents
    ):
        """Create the sources without starting them.

        :param classes: name -> source plug-in.
        :param local_events: stores the events.
        """
        self._local_events = local_events
        self._queue: BatchQueue[Observation] = BatchQueue(max_items=MAX_QUEUED)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="local-sources", daemon=True)
        self._sources = {name: source(conf, self.observe) for name, source in classes.items()}

    def start(self) -> None:
        """Start the thread, then the sources. A source that fails does not stop the others."""
        self._thread.start()
        for name, source in self._sources.items():
            try:
                source.start()
            except Exception:
                LOG.exception("Source %s could not be started; its events are missing", name)

    def stop(self, timeout: float) -> None:
        """Stop the sources, then the thread after it has stored the queued events.

        :param timeout: maximum time to store queued events, in seconds. The events that are not
            stored by then are lost, and logged.
        """
        for name, source in self._sources.items():
            try:
                source.stop()
            except Exception:
                LOG.exception("Source %s could not be stopped", name)
        self._stopping.set()
        self._queue.close()
        self._thread.join(timeout)
        if self._thread.is_alive():
            LOG.error("%d observations could not be stored before the stop", len(self._queue))

    def observe(self, observation: Observation) -> None:
        """Queue an observation of a source; wait while the queue is full.

        After a stop, an observation is dropped and logged.
        """
        while not self._stopping.is_set():
            if self._queue.put(observation, timeout=RETRY_INTERVAL):
                return
        LOG.error("Dropped observation: engine is stopping: %.500r", observation)

    # -- the thread ----------------------------------------------------------------------------
    def _run(self) -> None:
        while not self._queue.is_closed:
            batch = self._queue.get_batch(_MAX_BATCH)
            for observation in batch:
                if isinstance(observation, Reachability):
                    _log_reachability(observation)
            self._store([each for each in batch if isinstance(each, RawEvent)])

    def _store(self, raw_events: Sequence[RawEvent]) -> None:
        """Store events, repeatedly until it succeeds; after a stop, only once more."""
        # Filter once, so that each attempt stores the same events.
        deliveries = self._local_events.filter(raw_events)
        while deliveries:
            try:
                self._local_events.store_deliveries(deliveries)
                return
            except Retriable as error:
                if self._stopping.is_set():
                    _log_dropped(deliveries, f"engine is stopping, {error}")
                    return
                LOG.warning("Could not store %d events yet: %s", len(deliveries), error)
            except Exception as error:
                LOG.exception("Unexpected error while storing %d events", len(deliveries))
                _log_dropped(deliveries, f"{type(error).__name__}: {error}")
                return
            self._stopping.wait(RETRY_INTERVAL)


def _log_dropped(deliveries: Sequence[Delivery], reason: str) -> None:
    for delivery in deliveries:
        event = delivery.event
        LOG.error(
            "Dropped event %s (%s) of instance %s: %s",
            event.event_id,
            event.cause,
            event.instance.uuid,
            reason,
        )


def _log_reachability(observation: Reachability) -> None:
    if observation.reachable:
        LOG.info("Source %s is connected", observation.source)
    else:
        LOG.warning(
            "Source %s lost its connection, retrying: %s", observation.source, observation.reason
        )
