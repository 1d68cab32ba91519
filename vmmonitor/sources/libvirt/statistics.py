# SPDX-License-Identifier: Apache-2.0
"""Recent statistics of every instance, so that evidence shows those from before a failure."""

import collections
import contextlib
import json
import logging
import threading
import time
import zlib
from typing import Any, Protocol

import libvirt
from oslo_config import cfg
from oslo_log import log

from vmmonitor.bounded_call import BoundedCalls, CallUnfinished
from vmmonitor.periodic import PeriodicThread
from vmmonitor.sources.libvirt import decode
from vmmonitor.sources.libvirt.connection import EVENT_LOOP, connect

LOG = log.getLogger(__name__)

STATISTICS_GROUPS = (
    libvirt.VIR_DOMAIN_STATS_STATE
    | libvirt.VIR_DOMAIN_STATS_CPU_TOTAL
    | libvirt.VIR_DOMAIN_STATS_BALLOON
    | libvirt.VIR_DOMAIN_STATS_VCPU
    | libvirt.VIR_DOMAIN_STATS_INTERFACE
    | libvirt.VIR_DOMAIN_STATS_BLOCK
)
#: A domain that is busy or hangs is skipped instead of waited for.
_FLAGS = (
    libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE
    | libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
)
#: Maximum duration, in seconds, of reading the statistics of all instances.
READ_TIMEOUT = 10.0
#: Maximum number of consecutive readings without an instance; then its samples are deleted.
MAX_ABSENCES = 60


class SamplingRequest(Protocol):
    """Decides if statistics are sampled (``EvidenceCollector``)."""

    def wants_statistics(self) -> bool:
        """Return whether a rule in force asks for statistics."""


class StatisticsHistory:
    """Samples the statistics of all instances at an interval, while a rule asks for them."""

    def __init__(self, conf: cfg.ConfigOpts, request: SamplingRequest):
        """Store the collaborators; start no thread."""
        self._conf = conf
        self._request = request
        self._calls = BoundedCalls(limit=1)
        self._lock = threading.Lock()
        self._readings = 0
        self._failing = False
        #: UUID -> (number of the last reading that had it, its samples as compressed JSON).
        self._samples: dict[str, tuple[int, collections.deque[bytes]]] = {}
        self._thread = PeriodicThread(
            "evidence-stats",
            self._take_samples,
            lambda: float(self._conf.evidence.stats_interval),
            failure="Reading statistics of the instances failed",
        )

    def start(self) -> None:
        """Start the thread; it takes the first samples at once."""
        self._thread.wake()
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """End the thread.

        :param timeout: maximum duration, in seconds.
        """
        self._thread.stop(timeout)

    def samples_of(self, instance_uuid: str) -> list[dict[str, Any]]:
        """Return the samples of an instance, oldest first.

        :returns: for each sample ``at`` (microseconds since the epoch) and libvirt's fields.
        """
        with self._lock:
            _, packed = self._samples.get(instance_uuid, (0, collections.deque()))
            return [json.loads(zlib.decompress(data)) for data in packed]

    def _take_samples(self) -> None:
        if not self._request.wants_statistics():
            return
        try:
            found = self._calls.call("evidence-stats-look", self._read, READ_TIMEOUT)
        except (libvirt.libvirtError, CallUnfinished) as error:
            level = logging.DEBUG if self._failing else logging.WARNING
            LOG.log(level, "Could not read statistics of the instances: %s", error)
            self._failing = True
            return
        self._failing = False
        self._store(found)
        LOG.debug("Read statistics of %d instances", len(found))

    def _read(self) -> list[tuple[str, bytes]]:
        options = self._conf.libvirt
        with (
            EVENT_LOOP.running(),
            contextlib.closing(connect(options, options.read_only)) as opened,
        ):
            at = time.time_ns() // 1000
            return [
                (domain.UUIDString(), zlib.compress(json.dumps(make_sample(at, fields)).encode()))
                for domain, fields in opened.getAllDomainStats(STATISTICS_GROUPS, _FLAGS)
            ]

    def _store(self, found: list[tuple[str, bytes]]) -> None:
        with self._lock:
            self._readings += 1
            for uuid, packed in found:
                _, samples = self._samples.get(uuid) or (0, self._new_history())
                samples.append(packed)
                self._samples[uuid] = self._readings, samples
            for uuid, (reading, _) in list(self._samples.items()):
                if reading < self._readings - MAX_ABSENCES:
                    del self._samples[uuid]

    def _new_history(self) -> "collections.deque[bytes]":
        return collections.deque(maxlen=self._conf.evidence.stats_samples)


def make_sample(at: int, fields: dict[str, Any]) -> dict[str, Any]:
    """Return the statistics of one instance as JSON values.

    :param at: microseconds since the epoch.
    :param fields: libvirt's fields, by name.
    """
    return {"at": at} | decode.to_plain_value(fields)
