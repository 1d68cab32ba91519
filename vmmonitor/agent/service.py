# SPDX-License-Identifier: Apache-2.0
"""Builds the agent from its parts, starts them in the right order, and stops them in reverse."""

import functools
import os
import time
from collections.abc import Callable

from oslo_config import cfg
from oslo_log import log

from vmmonitor import plugins
from vmmonitor.agent.endpoint import HostEndpoint
from vmmonitor.agent.evidence.collector import Capturer, EvidenceCollector
from vmmonitor.agent.forwarder import Forwarder
from vmmonitor.agent.inventory import Inventory, read_known
from vmmonitor.agent.pipeline import Pipeline
from vmmonitor.agent.reporter import Reporter
from vmmonitor.agent.spool import Spool
from vmmonitor.model.errors import InvalidRules
from vmmonitor.model.event import Observation, Reachability
from vmmonitor.native_threads import service
from vmmonitor.rpc import transport as transports
from vmmonitor.rpc.engine_api import EngineAPI
from vmmonitor.rules import filters
from vmmonitor.sources import Source

LOG = log.getLogger(__name__)

#: Seconds that each part has to end at a stop.
STOP_TIMEOUT = 5


def now() -> int:
    """Return this host's clock, in microseconds since the epoch."""
    return time.time_ns() // 1000


class AgentService(service.Service):
    """The agent of one host."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        transport: transports.Transport,
        filter_file: Callable[[], str],
    ):
        """Build every part; start none.

        :param filter_file: tells the path of the filter file; asked again at a reload.
        :raises vmmonitor.model.errors.InvalidRules: the filter file is broken.
        :raises vmmonitor.plugins.NotInstalled: there is no such source.
        :raises vmmonitor.agent.spool.SpoolUnavailable: the spool cannot be opened.
        """
        super().__init__()
        self._conf = conf
        self._filter_file = filter_file
        rules = filters.load(filter_file())
        classes = {name: plugins.load("vmmonitor.sources", name) for name in conf.agent.sources}
        self.spool = Spool(conf.spool.path, conf.spool.max_events, conf.spool.max_bytes)
        known = {uuid: read_known(form) for uuid, form in self.spool.known().items()}
        self.inventory = Inventory(known)
        engine = EngineAPI(transport)
        self.forwarder = Forwarder(conf, self.spool, engine, self._changed, now)
        self.evidence = EvidenceCollector(
            conf, functools.partial(_captures, conf), self.inventory.get, self.spool, engine
        )
        self.pipeline = Pipeline(
            host=conf.host,
            inventory=self.inventory,
            filters=rules,
            spool=self.spool,
            spooled=self._spooled,
            changed=self._changed,
            now=now,
            taken=self._taken,
            going_down=self._going_down,
            evidence=self.evidence,
        )
        self.reporter = Reporter(
            *(conf, self.pipeline, self.forwarder, self.inventory, self.spool, engine, now)
        )
        self.sources: dict[str, Source] = {
            name: source_class(conf, self.pipeline.observe)
            for name, source_class in classes.items()
        }
        self._actions = _actions(conf)
        endpoint = HostEndpoint(self._actions, self.inventory, self.pipeline, now)
        self._server = transports.serve(transport, transports.AGENT_TOPIC, conf.host, endpoint)

    def _going_down(self) -> bool:
        return os.path.exists(self._conf.agent.going_down_file)

    def _changed(self) -> None:
        self.reporter.look()

    def _spooled(self) -> None:
        self.forwarder.wake()
        self.reporter.look()

    def _taken(self, observation: Observation) -> None:
        """Tell the other sources what one of them observed."""
        by = observation.source
        for name, source in self.sources.items():
            if name == by:
                continue
            try:
                source.follow(observation)
            except Exception:
                # Somebody's source must not stop everybody's events.
                LOG.exception("Source %s failed to follow source %s", name, by)

    def start(self) -> None:
        """Start what takes before what gives."""
        self.forwarder.start()
        self.evidence.start(self.pipeline.filters)
        self.pipeline.start()
        for name, source in self.sources.items():
            self._watch(name, source)
        self.reporter.start()
        self._server.start()
        LOG.info(
            "The agent of host %s watches with: %s",
            *(self._conf.host, ", ".join(self._conf.agent.sources)),
        )

    def _watch(self, name: str, source: Source) -> None:
        """Start a source; one that cannot start leaves the others alone, and is told."""
        try:
            source.start()
        except Exception as error:
            LOG.exception("Source %s does not start", name)
            self.pipeline.observe(
                Reachability(
                    source=name, reachable=False, at=now(), reason=f"it does not start: {error}"
                )
            )

    def stop(self, graceful: bool = False) -> None:
        """Stop what gives before what takes; what is not sent by then stays in the spool."""
        if self._actions:
            self._actions.stop()
        self._server.stop(STOP_TIMEOUT)
        for name, source in self.sources.items():
            try:
                source.stop()
            except Exception:
                # What was seen until now still has to get to the disk.
                LOG.exception("Source %s does not stop", name)
        self.pipeline.stop(STOP_TIMEOUT)
        self.evidence.stop(STOP_TIMEOUT)
        self.forwarder.stop(STOP_TIMEOUT)
        self.reporter.stop(STOP_TIMEOUT)
        self.spool.close()
        super().stop(graceful)

    def reset(self) -> None:
        """Read the filter file again; if it is broken, the rules in force stay."""
        try:
            rules = filters.load(self._filter_file())
        except InvalidRules as error:
            LOG.error("The new filter file is refused, the old rules stay in force: %s", error)
            return
        rules.inherit(self.pipeline.filters)
        self.evidence.use(rules)
        self.pipeline.filters = rules
        self.reporter.wake()
        LOG.info("The rules of %s are in force, checksum %s", rules.path, rules.checksum)


def _actions(conf: cfg.ConfigOpts):
    """Return what brings instances back, where that is allowed here."""
    if not conf.agent.allow_recovery:
        return None
    from vmmonitor.sources.libvirt.actions import DomainActions

    return DomainActions(conf)


def _captures(conf: cfg.ConfigOpts, stats_wanted: Callable[[], bool]) -> Capturer:
    """Return what captures evidence on this host."""
    from vmmonitor.sources.libvirt import evidence

    return evidence.LibvirtCapturer(conf, stats_wanted)
