# SPDX-License-Identifier: Apache-2.0
"""The last statistics of every instance, so that those before a fault can be shown after it."""

import collections
import contextlib
import json
import threading
import time
import zlib
from collections.abc import Callable
from typing import Any

import libvirt
from oslo_config import cfg
from oslo_log import log

from vmmonitor.sources.libvirt import decode
from vmmonitor.sources.libvirt.connection import EVENT_LOOP, connect
from vmmonitor.sources.text_tail import Calls, CaptureUnavailable

LOG = log.getLogger(__name__)

WHAT = (
    libvirt.VIR_DOMAIN_STATS_STATE
    | libvirt.VIR_DOMAIN_STATS_CPU_TOTAL
    | libvirt.VIR_DOMAIN_STATS_BALLOON
    | libvirt.VIR_DOMAIN_STATS_VCPU
    | libvirt.VIR_DOMAIN_STATS_INTERFACE
    | libvirt.VIR_DOMAIN_STATS_BLOCK
)
#: Whoever is busy, or hangs, is passed over instead of waited for.
HOW = (
    libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE
    | libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
)
#: Seconds that a look may take. It costs nobody else's time.
TIMEOUT = 10.0
#: Looks that an instance may be missing from before it is forgotten.
ABSENCES = 60


class StatisticsHistory:
    """Looks at all instances of the host now and then, as long as anybody wants that."""

    def __init__(self, conf: cfg.ConfigOpts, calls: Calls, wanted: Callable[[], bool]):
        """Keep the parts; start nothing."""
        self._conf = conf
        self._calls = calls
        self._wanted = wanted
        self._lock = threading.Lock()
        self._looks = 0
        #: uuid -> (number of the look that saw it last, its samples: JSON, packed).
        self._samples: dict[str, tuple[int, collections.deque[bytes]]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="evidence-stats", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """End the thread; at most ``timeout`` seconds."""
        self._stopping.set()
        self._thread.join(timeout)

    def of(self, instance_uuid: str) -> list[dict[str, Any]]:
        """Return what is remembered of an instance, oldest first.

        :returns: of each look ``at`` (microseconds since the epoch) and libvirt's own fields.
        """
        with self._lock:
            _, packed = self._samples.get(instance_uuid, (0, collections.deque()))
            return [json.loads(zlib.decompress(one)) for one in packed]

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self._wanted():
                self._look()
            self._stopping.wait(self._conf.evidence.stats_interval)

    def _look(self) -> None:
        try:
            found = self._calls.call("evidence-stats-look", self._read, TIMEOUT)
            self._keep(found)
            LOG.debug("Looked at the statistics of %d instances", len(found))
        except (libvirt.libvirtError, CaptureUnavailable) as error:
            LOG.debug("No statistics: %s", error)
        except Exception:
            LOG.exception("Reading statistics failed; it is tried again")

    def _read(self) -> list[tuple[str, bytes]]:
        options = self._conf.libvirt
        with (
            EVENT_LOOP.running(),
            contextlib.closing(connect(options, options.read_only)) as opened,
        ):
            at = time.time_ns() // 1000
            return [
                (domain.UUIDString(), zlib.compress(json.dumps(sample(at, said)).encode()))
                for domain, said in opened.getAllDomainStats(WHAT, HOW)
            ]

    def _keep(self, found: list[tuple[str, bytes]]) -> None:
        with self._lock:
            self._looks += 1
            for uuid, packed in found:
                _, samples = self._samples.get(uuid) or (0, self._none())
                samples.append(packed)
                self._samples[uuid] = self._looks, samples
            for uuid, (seen, _) in list(self._samples.items()):
                if seen < self._looks - ABSENCES:
                    del self._samples[uuid]

    def _none(self) -> "collections.deque[bytes]":
        return collections.deque(maxlen=self._conf.evidence.stats_samples)


def sample(at: int, said: dict[str, Any]) -> dict[str, Any]:
    """Return one look at one instance as JSON values.

    :param at: microseconds since the epoch.
    :param said: libvirt's word, one field per figure.
    """
    return {"at": at} | decode.plain(said)
