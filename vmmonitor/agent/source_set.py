# SPDX-License-Identifier: Apache-2.0
"""The sources of one agent. An error in one of them does not stop the others."""

from collections.abc import Iterable, Iterator, Mapping

from oslo_config import cfg
from oslo_log import log

from vmmonitor.agent.signals import AgentClock
from vmmonitor.model.event import Observation, Reachability
from vmmonitor.sources import Observe, Source

LOG = log.getLogger(__name__)


class SourceSet:
    """Starts and stops the sources, and passes observations from one to the others."""

    def __init__(
        self,
        *,
        conf: cfg.ConfigOpts,
        classes: Mapping[str, type[Source]],
        observe: Observe,
        now: AgentClock,
    ):
        """Create every source; start none.

        :param classes: name -> class of the source.
        :param observe: takes the observations of the sources.
        """
        self._observe = observe
        self._now = now
        self._sources = {name: build(conf, observe) for name, build in classes.items()}

    def __getitem__(self, name: str) -> Source:
        return self._sources[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def start(self) -> None:
        """Start every source; one that fails to start is reported as not connected."""
        for name, source in self._sources.items():
            try:
                source.start()
            except Exception as error:
                LOG.exception("Source %s failed to start", name)
                reason = f"failed to start: {error}"
                self._observe(
                    Reachability(source=name, reachable=False, at=self._now(), reason=reason)
                )

    def stop(self) -> None:
        """Stop every source."""
        for name, source in self._sources.items():
            try:
                source.stop()
            except Exception:
                # The observations that are queued must still reach the spool.
                LOG.exception("Source %s failed to stop", name)

    def find_fault(self, instance_uuid: str) -> str:
        """Return why an instance does not work now, by what the sources found; else empty."""
        for name, source in self._sources.items():
            try:
                if fault := source.find_fault(instance_uuid):
                    return fault
            except Exception:
                LOG.exception("Source %s failed to judge instance %s", name, instance_uuid)
        return ""

    def publish(self, observations: Iterable[Observation]) -> None:
        """Pass observations, in order, to every source but the one that made them."""
        for observation in observations:
            for name, source in self._sources.items():
                if name == observation.source:
                    continue
                try:
                    source.follow(observation)
                except Exception:
                    # Sources are plug-ins; an error in one must not stop this thread.
                    LOG.exception("Source %s failed to follow source %s", name, observation.source)
