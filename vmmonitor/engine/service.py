# SPDX-License-Identifier: Apache-2.0
"""Builds an engine from its parts, starts them in order, and stops them in reverse."""

from collections.abc import Callable
from typing import Protocol

from oslo_config import cfg
from oslo_log import log

from vmmonitor.db.session import Database
from vmmonitor.engine.admission import build_admission
from vmmonitor.engine.admission.circuit_breaker import CircuitBreaker
from vmmonitor.engine.admission.storm_monitor import StormMonitor
from vmmonitor.engine.endpoint import AgentCallEndpoint
from vmmonitor.engine.ingest import local_sources
from vmmonitor.engine.ingest.local_events import LocalEvents
from vmmonitor.engine.ingest.local_sources import LocalSources
from vmmonitor.engine.ingest.writer import EventWriter
from vmmonitor.engine.reconcile.reconciler import Reconciler
from vmmonitor.engine.recovery import drivers
from vmmonitor.engine.recovery.dispatcher import Dispatcher
from vmmonitor.engine.recovery.host_agents import RpcHostAgents
from vmmonitor.engine.upkeep.agent_health import AgentHealth
from vmmonitor.engine.upkeep.host_claims import HostClaims
from vmmonitor.engine.upkeep.housekeeping import Housekeeping
from vmmonitor.engine.upkeep.relay import OutboxRelay
from vmmonitor.engine.upkeep.reporting_hosts import ReportingHosts
from vmmonitor.model.errors import InvalidRules
from vmmonitor.native_threads import service
from vmmonitor.rpc import authentication, notifier
from vmmonitor.rpc import transport as transports
from vmmonitor.rules import defaults, filters

LOG = log.getLogger(__name__)

#: Maximum time to stop one part, in seconds.
STOP_TIMEOUT = 10


class Part(Protocol):
    """A part of an engine that runs in the background."""

    def start(self) -> None:
        """Start the part."""

    def stop(self, timeout: float) -> None:
        """Stop the part; wait at most ``timeout`` seconds."""


def check(conf: cfg.ConfigOpts, policy_file: str, filter_file: str) -> None:
    """Check what ``EngineService.start`` needs, while an error can still be shown on a terminal.

    :raises vmmonitor.model.errors.VmmonitorError: the policies or filters are invalid, or a
        plug-in is not installed.
    """
    transport = transports.new(conf)
    agents = RpcHostAgents(transport, authentication.for_engine(conf, transport).signer)
    drivers.Drivers(conf, agents).load_policies(policy_file)
    drivers.expectation(conf)
    filters.load(filter_file)
    local_sources.load_classes(conf)
    if conf.notifications.enabled:
        notifier.Notifier(conf)


def shipped_filters() -> str:
    """Return the path of the filter file that comes with vmmonitor."""
    return defaults.path(defaults.EVENT_FILTERS)


class EngineService(service.Service):
    """One engine process."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        new_transport: Callable[[], transports.Transport],
        policy_file: Callable[[], str],
        filter_file: Callable[[], str] = shipped_filters,
    ):
        """Create an engine without its parts: ``start`` builds them, after the process has forked.

        :param new_transport: returns the transport to use.
        :param policy_file: returns the path of the policy file; called again at a reload.
        :param filter_file: returns the path of the filter file for events that are made in the
            engine; called again at a reload.
        """
        super().__init__()
        self._conf = conf
        self._new_transport = new_transport
        self._policy_file = policy_file
        self._filter_file = filter_file

    def start(self) -> None:
        """Build and start the parts.

        :raises vmmonitor.model.errors.VmmonitorError: the policies or filters are invalid, or name
            a plug-in that is not installed.
        """
        self._parts = self._build()
        for part in self._parts:
            part.start()
        LOG.info("Engine started on host %s", self._conf.host)

    def stop(self, graceful: bool = False) -> None:
        """Stop the parts."""
        for part in reversed(self._parts):
            part.stop(STOP_TIMEOUT)
        self._database.dispose()
        super().stop(graceful)

    def _build(self) -> list[Part]:
        """Return the parts in start order."""
        conf = self._conf
        transport = self._new_transport()
        self._database = database = Database(conf)
        self._authentication = authentication.for_engine(conf, transport)
        agents = RpcHostAgents(transport, self._authentication.signer)
        self._drivers = drivers.Drivers(conf, agents)
        policies = self._drivers.load_policies(self._policy_file())
        drivers.warn_if_nothing_recovers(conf, policies)
        expectation = drivers.expectation(conf)
        expectation.use_host_reports(ReportingHosts(database))
        breaker = CircuitBreaker(conf)
        self.recoveries = Dispatcher(
            conf=conf,
            database=database,
            policies=policies,
            expectation=expectation,
            drivers=self._drivers,
            agents=agents,
            admission=build_admission(conf, breaker),
        )
        self._writer = EventWriter(
            database=database,
            policies=policies,
            commit_events=conf.engine.commit_events,
            recovery_queue=self.recoveries,
        )
        self._local_events = self._build_local_events()
        # Start consumers before producers; stop in reverse.
        return [
            OutboxRelay(conf, database),
            self.recoveries,
            self._writer,
            Housekeeping(conf, database),
            AgentHealth(conf, database),
            HostClaims(conf, database, expectation, self._local_events),
            StormMonitor(conf, database, breaker, expectation),
            Reconciler(
                conf=conf,
                database=database,
                expectation=expectation,
                local_events=self._local_events,
            ),
            self._build_server(transport),
            LocalSources(conf, local_sources.load_classes(conf), self._local_events),
        ]

    def _build_local_events(self) -> LocalEvents:
        """Return the input for events that are made in this engine."""
        return LocalEvents(
            filters=filters.load(self._filter_file()),
            writer=self._writer,
            store_timeout=self._conf.engine.store_timeout,
            now=self._database.now,
        )

    def _build_server(self, transport: transports.Transport) -> Part:
        """Return the server that answers the calls of agents."""
        endpoint = AgentCallEndpoint(self._database, self._writer, self._conf.engine.store_timeout)
        guard = self._authentication.guard
        return transports.serve(
            transport, transports.ENGINE_TOPIC, self._conf.host, endpoint, guard
        )

    def reset(self) -> None:
        """Read the rules and the keys again; an invalid file leaves those in force unchanged."""
        self._authentication.reload()
        try:
            policies = self._drivers.load_policies(self._policy_file())
        except InvalidRules as error:
            LOG.error("Policies not reloaded, the previous ones stay in force: %s", error)
        else:
            self._writer.policies = policies
            self.recoveries.use_policies(policies)
            drivers.warn_if_nothing_recovers(self._conf, policies)
            LOG.info("Policies of %s in force, checksum %s", policies.path, policies.checksum)
        try:
            loaded = filters.load(self._filter_file())
        except InvalidRules as error:
            LOG.error("Filters not reloaded, the previous ones stay in force: %s", error)
        else:
            self._local_events.filters = loaded
            LOG.info("Filters of %s in force, checksum %s", loaded.path, loaded.checksum)
