# SPDX-License-Identifier: Apache-2.0
"""Builds the agent from its parts; starts consumers before producers, and stops in reverse."""

import collections
import os
import time
from collections.abc import Callable

from oslo_config import cfg
from oslo_log import log

from vmmonitor import plugins
from vmmonitor.agent.correlator import Correlator
from vmmonitor.agent.endpoint import HostEndpoint
from vmmonitor.agent.engine_clock import EngineClock
from vmmonitor.agent.enrichment import HostShutdown, StorageAttribution
from vmmonitor.agent.event_filter import EventFilter
from vmmonitor.agent.evidence.collector import Capturer, EvidenceCollector, StatisticsRequest
from vmmonitor.agent.evidence.files import EvidenceFiles
from vmmonitor.agent.evidence.sender import EvidenceSender
from vmmonitor.agent.fences import Fences
from vmmonitor.agent.forwarder import Forwarder
from vmmonitor.agent.health import HealthAssessor
from vmmonitor.agent.inventory import Inventory
from vmmonitor.agent.inventory_sync import InventorySync
from vmmonitor.agent.known import read_known
from vmmonitor.agent.permits import Permits
from vmmonitor.agent.pipeline import Pipeline
from vmmonitor.agent.reachability import ReachabilityTracker
from vmmonitor.agent.reporter import Reporter
from vmmonitor.agent.signals import ObservationQueue, StatusChanges
from vmmonitor.agent.source_set import SourceSet
from vmmonitor.agent.spool import Spool
from vmmonitor.agent.spool_writer import SpoolWriter
from vmmonitor.model.errors import InvalidRules
from vmmonitor.native_threads import service
from vmmonitor.rpc import authentication
from vmmonitor.rpc import transport as transports
from vmmonitor.rpc.engine_api import EngineAPI
from vmmonitor.rules import filters
from vmmonitor.rules.filters import Filters

LOG = log.getLogger(__name__)

#: Maximum duration, in seconds, of the stop of each part.
PART_STOP_TIMEOUT = 5


def read_clock() -> int:
    """Return the time of this host, in microseconds since the epoch."""
    return time.time_ns() // 1000


class LibvirtCapturerLoader:
    """Imports what captures evidence only on hosts where a rule asks for evidence."""

    def __init__(self, conf: cfg.ConfigOpts):
        """Store the configuration."""
        self._conf = conf

    def load(self, request: StatisticsRequest) -> Capturer:
        """Return the capturer of this host."""
        from vmmonitor.sources.libvirt.evidence import LibvirtCapturer

        return LibvirtCapturer(self._conf, request)


class AgentService(service.Service):
    """The agent of one host."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        transport: transports.Transport,
        filter_file: Callable[[], str],
    ):
        """Build every part; start none.

        :param filter_file: returns the path of the filter file; called again at a reload.
        :raises vmmonitor.model.errors.InvalidRules: the filter file is invalid.
        :raises vmmonitor.plugins.NotInstalled: a source of ``[agent] sources`` does not exist.
        :raises vmmonitor.agent.spool.SpoolUnavailable: the spool cannot be opened.
        """
        super().__init__()
        self._conf = conf
        self._filter_file = filter_file
        rules = filters.load(filter_file())
        self._changes = StatusChanges()
        self._queue = ObservationQueue()
        self.engine_clock = EngineClock()
        self._authentication = authentication.for_agent(conf, transport)
        self._engine = EngineAPI(transport, self.engine_clock, self._authentication.signer)
        self.reachability = ReachabilityTracker(self._changes)
        self.sources = self._build_sources()
        self.spool = Spool(conf.spool.path, conf.spool.max_events, conf.spool.max_bytes)
        known = {uuid: read_known(form) for uuid, form in self.spool.known().items()}
        self.inventory = Inventory(known, conf.libvirt.vanished_limit)
        self.forwarder = Forwarder(
            conf=conf,
            spool=self.spool,
            engine=self._engine,
            changes=self._changes,
            now=read_clock,
        )
        self.evidence = self._build_evidence()
        self.pipeline = self._build_pipeline(rules)
        self.reporter = self._build_reporter()
        self._changes.subscribe(self.reporter)
        self._recoverer = _load_recoverer(conf)
        endpoint = HostEndpoint(
            recoverer=self._recoverer,
            permits=Permits(
                host=conf.host,
                fences=Fences(self.spool, read_clock),
                clock=self.engine_clock,
                engine=self._engine,
            ),
            inspector=_load_inspector(conf),
            faults=self.sources,
            inventory=self.inventory,
            sink=self.pipeline,
            now=read_clock,
        )
        guard = self._authentication.guard
        self._server = transports.serve(
            transport, transports.AGENT_TOPIC, conf.host, endpoint, guard
        )

    def _build_sources(self) -> SourceSet:
        names = self._conf.agent.sources
        return SourceSet(
            conf=self._conf,
            classes={name: plugins.load("vmmonitor.sources", name) for name in names},
            observe=self._queue.observe,
            now=read_clock,
        )

    def _build_evidence(self) -> EvidenceCollector:
        options = self._conf.evidence
        outgoing = EvidenceFiles(
            os.path.join(options.directory, "outgoing"), options.max_total_bytes
        )
        sender = EvidenceSender(
            conf=self._conf, files=outgoing, spool=self.spool, engine=self._engine
        )
        return EvidenceCollector(
            conf=self._conf,
            loader=LibvirtCapturerLoader(self._conf),
            inventory=self.inventory,
            outgoing=outgoing,
            sender=sender,
        )

    def _build_pipeline(self, rules: Filters) -> Pipeline:
        dropped: collections.Counter[str] = collections.Counter()
        self.event_filter = EventFilter(
            host=self._conf.host,
            filters=rules,
            enrichments=[HostShutdown(self._conf), StorageAttribution(self.inventory)],
            evidence_references=self.evidence,
            dropped=dropped,
            now=read_clock,
        )
        self.spool_writer = SpoolWriter(
            spool=self.spool,
            forwarder=self.forwarder,
            changes=self._changes,
            backlog=self._queue,
        )
        return Pipeline(
            queue=self._queue,
            reachability=self.reachability,
            correlator=Correlator(dropped),
            inventory=self.inventory,
            event_filter=self.event_filter,
            spool_writer=self.spool_writer,
            evidence=self.evidence,
            sources=self.sources,
            dropped=dropped,
            now=read_clock,
        )

    def _build_reporter(self) -> Reporter:
        health = HealthAssessor(
            conf=self._conf,
            reachability=self.reachability,
            spool=self.spool,
            spool_writer=self.spool_writer,
            forwarder=self.forwarder,
        )
        return Reporter(
            conf=self._conf,
            pipeline=self.pipeline,
            event_filter=self.event_filter,
            health=health,
            inventory=self.inventory,
            inventory_sync=InventorySync(
                conf=self._conf, inventory=self.inventory, engine=self._engine
            ),
            spool=self.spool,
            evidence=self.evidence,
            engine=self._engine,
            now=read_clock,
        )

    def start(self) -> None:
        """Start consumers before producers."""
        self.forwarder.start()
        self.evidence.start(self.event_filter.filters)
        self.pipeline.start()
        self.sources.start()
        self.reporter.start()
        self._server.start()
        names = ", ".join(self._conf.agent.sources)
        LOG.info("Agent started on host %s with sources: %s", self._conf.host, names)

    def stop(self, graceful: bool = False) -> None:
        """Stop producers before consumers; events that are not sent by then stay in the spool."""
        if self._recoverer:
            self._recoverer.stop()
        self._server.stop(PART_STOP_TIMEOUT)
        self.sources.stop()
        self.pipeline.stop(PART_STOP_TIMEOUT)
        self.evidence.stop(PART_STOP_TIMEOUT)
        self.forwarder.stop(PART_STOP_TIMEOUT)
        self.reporter.stop(PART_STOP_TIMEOUT)
        self.spool.close()
        super().stop(graceful)

    def reset(self) -> None:
        """Read the filter file and the key again; if one is invalid, that in force stays."""
        self._authentication.reload()
        try:
            rules = filters.load(self._filter_file())
        except InvalidRules as error:
            LOG.error("The new filter file is invalid, the old rules stay in force: %s", error)
            return
        rules.inherit(self.event_filter.filters)
        self.evidence.use_filters(rules)
        self.event_filter.filters = rules
        self.reporter.wake()
        LOG.info("The rules of %s are in force, checksum %s", rules.path, rules.checksum)


def _load_recoverer(conf: cfg.ConfigOpts):
    """Return what recovers instances; None if ``[agent] allow_recovery`` is off."""
    if not conf.agent.allow_recovery:
        return None
    from vmmonitor.sources.libvirt.actions import DomainActions

    return DomainActions(conf)


def _load_inspector(conf: cfg.ConfigOpts):
    """Return what examines instances; it needs only the read-only socket of libvirt."""
    from vmmonitor.sources.libvirt.inspector import DomainInspector

    return DomainInspector(conf)
