# SPDX-License-Identifier: Apache-2.0
"""Builds an engine from its parts, starts them in the right order, and stops them in reverse."""

from collections.abc import Callable
from typing import Any

from oslo_config import cfg
from oslo_log import log

from vmmonitor import plugins
from vmmonitor.db.session import Database
from vmmonitor.engine.admission import limits
from vmmonitor.engine.admission.silences import Silences
from vmmonitor.engine.admission.storm_monitor import StormWatch
from vmmonitor.engine.admission.storms import Fuse, Storms
from vmmonitor.engine.endpoint import Endpoint
from vmmonitor.engine.ingest.local_sources import LocalSources
from vmmonitor.engine.ingest.writer import EventWriter
from vmmonitor.engine.reconcile.reconciler import Reconciler
from vmmonitor.engine.recovery import drivers
from vmmonitor.engine.recovery.dispatcher import Recoveries
from vmmonitor.engine.upkeep.housekeeping import Housekeeping
from vmmonitor.engine.upkeep.relay import OutboxRelay
from vmmonitor.model.errors import InvalidRules
from vmmonitor.native_threads import service
from vmmonitor.rpc import notifier
from vmmonitor.rpc import transport as transports
from vmmonitor.rpc.agent_api import AgentAPI
from vmmonitor.rules import defaults, filters

LOG = log.getLogger(__name__)

#: Seconds that each part has to end at a stop.
STOP_TIMEOUT = 10


def check(conf: cfg.ConfigOpts, policy_file: str, filter_file: str) -> None:
    """Check what ``EngineService.start`` needs, where nobody would see its error.

    :raises vmmonitor.model.errors.VmmonitorError: policies or filters are broken, or something
        is not installed.
    """
    drivers.Drivers(conf, AgentAPI(transports.new(conf)).recover_instance).load_policies(
        policy_file
    )
    drivers.expectation(conf)
    filters.load(filter_file)
    _source_classes(conf)
    if conf.notifications.enabled:
        notifier.Notifier(conf)


def shipped_filters() -> str:
    """Return the path of the filter file that comes with vmmonitor."""
    return defaults.path(defaults.EVENT_FILTERS)


def _source_classes(conf: cfg.ConfigOpts) -> dict[str, Any]:
    return {name: plugins.load("vmmonitor.sources", name) for name in conf.engine.sources}


class EngineService(service.Service):
    """One engine process."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        new_transport: Callable[[], transports.Transport],
        policy_file: Callable[[], str],
        filter_file: Callable[[], str] = shipped_filters,
    ):
        """Keep what is needed. The parts are built in ``start``, which is after the fork.

        :param new_transport: returns the transport to use.
        :param policy_file: tells the path of the file of policies; asked again at a reload.
        :param filter_file: the same for the rules about what is noticed in an engine; by default
            the shipped ones.
        """
        super().__init__()
        self._conf = conf
        self._new_transport = new_transport
        self._policy_file = policy_file
        self._filter_file = filter_file

    def start(self) -> None:
        """Build the parts, and start what takes before what gives.

        :raises vmmonitor.model.errors.VmmonitorError: policies or filters are broken, or name
            what is not installed.
        """
        self._build()
        self._start()

    def _build(self) -> None:
        conf = self._conf
        transport = self._new_transport()
        self._database = Database(conf)
        self._drivers = drivers.Drivers(conf, AgentAPI(transport).recover_instance)
        policies = self._drivers.load_policies(self._policy_file())
        drivers.warn_if_nothing_recovers(conf, policies)
        expectation = drivers.expectation(conf)
        fuse = Fuse(conf)
        # What a failure must pass on its way to a recovery, in the order in which it is asked. The
        # last gate, the turns, is the recoveries' own.
        gates = [Silences().gate, Storms(conf, fuse).gate, limits.Restarts(conf).gate]
        self.recoveries = Recoveries(
            *(conf, self._database, policies, expectation, self._drivers), gates
        )
        storm_watch = StormWatch(conf, self._database, fuse, expectation)
        self._ingest = EventWriter(
            database=self._database,
            policies=policies,
            commit_events=conf.engine.commit_events,
            recovery_queue=self.recoveries,
        )
        self._observer = LocalSources(
            filters.load(self._filter_file()),
            self._ingest.store,
            conf.engine.store_timeout,
            self._database.now,
        )
        reconciliation = Reconciler(conf, self._database, expectation, self._observer.store)
        self._sources = {
            name: source_class(conf, self._observer.observe)
            for name, source_class in _source_classes(conf).items()
        }
        housekeeping = Housekeeping(conf, self._database)
        outbox = OutboxRelay(conf, self._database)
        endpoint = Endpoint(self._database, self._ingest, conf.engine.store_timeout)
        server = transports.serve(transport, transports.ENGINE_TOPIC, conf.host, endpoint)
        # What takes before what gives.
        self._parts = (
            *(outbox, self.recoveries, self._ingest, housekeeping, storm_watch),
            *(self._observer, reconciliation, server),
        )

    def _start(self) -> None:
        for part in self._parts:
            part.start()
        for name, source in self._sources.items():
            try:
                source.start()
            except Exception:
                # Somebody's source must not keep everybody's events away.
                LOG.exception("Source %s does not start", name)
        LOG.info("An engine works on host %s", self._conf.host)

    def stop(self, graceful: bool = False) -> None:
        """Stop what gives before what takes."""
        for name, source in self._sources.items():
            try:
                source.stop()
            except Exception:
                LOG.exception("Source %s does not stop", name)
        for part in reversed(self._parts):
            part.stop(STOP_TIMEOUT)
        self._database.dispose()
        super().stop(graceful)

    def reset(self) -> None:
        """Read policies and filters again; if a file is broken, what it says is as it was."""
        try:
            policies = self._drivers.load_policies(self._policy_file())
        except InvalidRules as error:
            LOG.error("The new policies are refused, the old ones stay in force: %s", error)
        else:
            self._ingest.policies = policies
            self.recoveries.use(policies)
            drivers.warn_if_nothing_recovers(self._conf, policies)
            LOG.info(
                "The policies of %s are in force, checksum %s", policies.path, policies.checksum
            )
        try:
            self._observer.filters = rules = filters.load(self._filter_file())
        except InvalidRules as error:
            LOG.error("The new filter file is refused, the old rules stay in force: %s", error)
        else:
            LOG.info("The rules of %s are in force, checksum %s", rules.path, rules.checksum)
