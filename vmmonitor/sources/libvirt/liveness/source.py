# SPDX-License-Identifier: Apache-2.0
"""The liveness source: examines all running instances in rounds and observes the findings.

One thread reads the state of the instances without asking QEMU, and is the only one that decides.
The threads of the pool ask QEMU, and put the results into its queue.
"""

import dataclasses
import time
from typing import Any

import libvirt
from oslo_config import cfg

from vmmonitor import sources
from vmmonitor.model.event import Observation, RawEvent, SourceSnapshot
from vmmonitor.model.instance import Instance, QemuOwner
from vmmonitor.sources import procfs
from vmmonitor.sources.libvirt import decode
from vmmonitor.sources.libvirt.connection import Connection, connect
from vmmonitor.sources.libvirt.liveness import probe, state_file
from vmmonitor.sources.libvirt.liveness.facts import Facts, Finding
from vmmonitor.sources.libvirt.liveness.judge import Judge
from vmmonitor.sources.libvirt.liveness.pool import STUCK_AFTER, DomainCache, ProbePool
from vmmonitor.sources.libvirt.liveness.readings import HostReading, QemuReading
from vmmonitor.sources.libvirt.liveness.settings import read_settings
from vmmonitor.sources.libvirt.liveness.tasks import Tasks
from vmmonitor.sources.libvirt.qemu_owner import read_owner
from vmmonitor.sources.libvirt.reconnecting import ReconnectingSource

#: Events of other sources that invalidate earlier measurements.
DISTURBING_TYPES = frozenset(
    {
        "lifecycle.started",
        "lifecycle.resumed",
        "lifecycle.suspended",
        "lifecycle.stopped",
        "lifecycle.crashed",
        "lifecycle.pmsuspended",
        "reboot",
        "migration_iteration",
        "job_completed",
    }
)
#: Event of the agent after it has recovered an instance, which ends the incident.
RECOVERED_TYPE = "recovery.running"
#: Number of rounds that search the process of an instance.
PROCESS_SEARCHES = 3
ACTIVE_DOMAINS = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE
MS_PER_SECOND = 1000


class EventlessConnection(Connection):
    """A connection without events."""

    def _subscribe(self) -> None:
        """Subscribe to nothing."""

    def _unsubscribe(self, subscription: int) -> None:
        """Have no subscription to cancel."""


@dataclasses.dataclass(slots=True)
class WatchedRun:
    """One run of one instance.

    :param domain: as the last round listed it.
    :param state: last state and reason.
    :param searches: number of further rounds that search its process.
    """

    domain: libvirt.virDomain
    run_id: int
    name: str
    judge: Judge
    tasks: Tasks | None = None
    state: tuple[str, str] = ("", "")
    searches: int = PROCESS_SEARCHES

    @property
    def key(self) -> str:
        """Id of the run, unique also across restarts of the host."""
        process = self.tasks.process if self.tasks else None
        return f"{self.run_id}:{process.pid}:{process.started}" if process else f"{self.run_id}"


@dataclasses.dataclass(frozen=True, slots=True)
class ProbeResult:
    """Result of asking the QEMU of one run; the reading is None if it was not asked."""

    uuid: str
    run_id: int
    reading: QemuReading | None


@dataclasses.dataclass(frozen=True, slots=True)
class PingResult:
    """Result of a ping of a guest agent."""

    uuid: str
    run_id: int
    answered: bool
    at: float


class LivenessSource(ReconnectingSource):
    """Finds hung QEMU processes, stalled guests, and failures without an event."""

    name = "liveness"

    def __init__(self, conf: cfg.ConfigOpts, observe: sources.Observe):
        """Store the collaborators; start no thread."""
        super().__init__(conf, observe)
        options = conf.liveness
        self._settings = read_settings(options)
        self._pings_agents = options.guest_agent
        self._read_only = conf.libvirt.read_only and not self._pings_agents
        self._path = options.facts_file
        self._watched: dict[str, WatchedRun] = {}
        self._owner = QemuOwner()
        self._next_round_at = 0.0
        #: UUID of a paused instance -> reason that another source has reported.
        self._reported_pauses: dict[str, str] = {}
        #: Facts that an earlier agent has reported.
        self._restored = state_file.read(self._path)
        self._pool = ProbePool(lambda: connect(conf.libvirt, self._read_only))

    def stop(self) -> None:
        """Stop watching. Stopping twice has no effect."""
        self._pool.stop()
        super().stop()

    def follow(self, observation: Observation) -> None:
        """Queue events that invalidate measurements, and reports of pauses."""
        if isinstance(observation, SourceSnapshot) or (
            isinstance(observation, RawEvent)
            and observation.type in DISTURBING_TYPES | {RECOVERED_TYPE}
        ):
            self._queue.put(observation)

    def find_fault(self, instance_uuid: str) -> str:
        """Return the hang or stall of an instance that lasts; empty if there is none."""
        run = self._watched.get(instance_uuid)
        facts = run.judge.facts.all() if run else self._restored.get(instance_uuid, ("", ()))[1]
        return next((f"{fact.kind}/{fact.detail}" for fact in facts if fact.is_serious), "")

    # -- the thread ----------------------------------------------------------------------------
    def _open(self) -> Connection:
        return EventlessConnection(self.conf.libvirt, self._read_only, self._queue.put)

    def _listen(self, connection: Connection) -> None:
        self._next_round_at = time.monotonic()
        self._owner = read_owner(connection.libvirt)
        while not self._stopping.is_set():
            if self._next_round_at <= time.monotonic():
                self._next_round_at = time.monotonic() + self._settings.interval
                self._run_round(connection.libvirt)
                self._report_reachability(True)
            self._read_due_instances()
            self._drain_queue(self._wait_time())

    def _wait_time(self) -> float:
        """Return the seconds until there is something to do."""
        due = (run.judge.next_reading_at() for run in self._watched.values())
        when = min([self._next_round_at, *(at for at in due if at is not None)])
        wait = max(0.0, when - time.monotonic())
        return min(wait, STUCK_AFTER / 2) if self._pool.add_worker_if_stuck() else wait

    def _handle(self, item: Any) -> bool:
        if isinstance(item, ProbeResult | PingResult):
            run = self._watched.get(item.uuid)
            if run and run.run_id == item.run_id:
                self._add_result(item, run)
        elif isinstance(item, SourceSnapshot):
            for seen in item.seen:
                self._note_pause(seen.instance.uuid, seen.state, seen.reason)
        else:
            uuid = item.instance.uuid
            self._note_pause(uuid, item.type.removeprefix("lifecycle."), item.detail)
            if run := self._watched.get(uuid):
                run.judge.disturb()
                if item.type == RECOVERED_TYPE:
                    run.judge.facts.forget_serious()
                    self._write_state_file()
        return False

    def _add_result(self, item: ProbeResult | PingResult, run: WatchedRun) -> None:
        if isinstance(item, PingResult):
            findings = run.judge.add_ping(item.answered, item.at, _now())
        elif item.reading is None:
            run.judge.withdraw_question()
            findings = []
        else:
            findings = run.judge.add_qemu_reading(item.reading, _now())
        self._observe_findings(item.uuid, run, findings)

    def _note_pause(self, uuid: str, state: str, reason: str) -> None:
        """Store the reason of a pause that another source has reported."""
        if state in ("paused", "suspended"):
            self._reported_pauses[uuid] = reason
        elif state == "crashed":
            self._reported_pauses[uuid] = "crashed"
        elif state in ("running", "started", "resumed", "shutoff", "stopped"):
            self._reported_pauses.pop(uuid, None)

    # -- a round -------------------------------------------------------------------------------
    def _run_round(self, connection: libvirt.virConnect) -> None:
        self._update_runs(connection)
        for uuid, run in list(self._watched.items()):
            if self._read_host(uuid, run) and run.judge.may_ask():
                self._submit_probe(uuid, run)

    def _update_runs(self, connection: libvirt.virConnect) -> None:
        """Add new runs, and remove those that have ended."""
        before, now = self._watched, {}
        # libvirt returns this group of statistics without a query to QEMU, unlike all others.
        group = libvirt.VIR_DOMAIN_STATS_STATE
        for domain, fields in connection.getAllDomainStats(group, ACTIVE_DOMAINS):
            uuid, run_id = domain.UUIDString(), domain.ID()
            run = before.get(uuid)
            if run is None or run.run_id != run_id:
                name = decode.to_plain_value(domain.name())
                run = WatchedRun(domain, run_id, name, Judge(self._settings, Facts()))
            run.domain = domain
            run.state = decode.decode_state(fields["state.state"], fields["state.reason"])
            now[uuid] = run
        for uuid, run in before.items():
            if uuid not in now and _may_reappear(run):
                now[uuid] = run
        self._watched = now
        self._find_processes()
        self._restore_facts()
        if any(run.judge.facts.all() and now.get(uuid) is not run for uuid, run in before.items()):
            self._write_state_file()

    def _find_processes(self) -> None:
        wanted = {
            uuid: run
            for uuid, run in self._watched.items()
            if run.tasks is None and run.searches > 0
        }
        found = procfs.find(wanted, self._owner) if wanted else {}
        for uuid, run in wanted.items():
            run.searches -= 1
            run.tasks = Tasks(found[uuid]) if uuid in found else None

    def _restore_facts(self) -> None:
        """Continue with the facts that an earlier agent has reported."""
        for uuid in self._restored.keys() & self._watched.keys():
            key, facts = self._restored.pop(uuid)
            if self._watched[uuid].key == key:
                self._watched[uuid].judge.facts = Facts(facts)

    def _read_due_instances(self) -> None:
        """Read the instances that may be certain to hang before the next round."""
        for uuid, run in list(self._watched.items()):
            due = run.judge.next_reading_at()
            if due is not None and due <= time.monotonic():
                self._read_host(uuid, run, refresh=True)

    def _read_host(self, uuid: str, run: WatchedRun, refresh: bool = False) -> bool:
        """Read the state of an instance; return False if it no longer exists.

        :param refresh: the state may have changed since the round began.
        :raises libvirt.libvirtError: libvirt is not reachable.
        """
        occupied_s = main = None
        try:
            if refresh:
                run.state = decode.decode_state(*run.domain.state())
            if run.judge.unanswered:
                occupied_s = _read_occupied(run.domain)
                main = run.tasks.read_main() if run.tasks else None
        except libvirt.libvirtError:
            if not run.domain.connect().isAlive():
                raise
            run.judge.discard_readings()
            return False
        state, reason = run.state
        reading = HostReading(
            at=time.monotonic(),
            state=state,
            reason=reason,
            occupied_s=occupied_s,
            main=main,
        )
        run.judge.set_reported_pause(self._reported_pauses.get(uuid, ""))
        self._observe_findings(uuid, run, run.judge.add_host_reading(reading, _now()))
        return True

    # -- probes --------------------------------------------------------------------------------
    def _submit_probe(self, uuid: str, run: WatchedRun) -> None:
        run_id, tasks = run.run_id, run.tasks
        complete, disks = run.judge.wants_complete(), run.judge.wants_disk_errors()

        def job(domains: DomainCache) -> None:
            reading = None
            try:
                reading = probe.read_qemu(domains, uuid, tasks, complete=complete, disks=disks)
            finally:
                self._queue.put(ProbeResult(uuid, run_id, reading))
            wants_ping = reading and self._pings_agents
            answered = probe.ping_agent(domains, uuid) if wants_ping else None
            if answered is not None:
                self._queue.put(PingResult(uuid, run_id, answered, time.monotonic()))

        # If the last question is still open, no new one is sent, and the open one counts.
        self._pool.submit(uuid, job)
        run.judge.note_question(time.monotonic())

    # -- findings ------------------------------------------------------------------------------
    def _observe_findings(self, uuid: str, run: WatchedRun, findings: list[Finding]) -> None:
        for finding in findings:
            self.observe(
                RawEvent(
                    source=self.name,
                    type=finding.type,
                    detail=finding.detail,
                    occurred_at=_now(),
                    instance=Instance(uuid=uuid, name=run.name, hypervisor_name=run.name),
                    attributes=finding.attributes,
                )
            )
        if findings:
            self._write_state_file()

    def _write_state_file(self) -> None:
        reported = {
            uuid: (run.key, run.judge.facts.all())
            for uuid, run in self._watched.items()
            if run.judge.facts.all()
        }
        state_file.write(self._path, reported)


def _read_occupied(domain: libvirt.virDomain) -> float | None:
    """Return the seconds since QEMU received a command; None if there is none."""
    control, _, since_ms = domain.controlInfo()
    if control != libvirt.VIR_DOMAIN_CONTROL_OCCUPIED:
        return None
    return since_ms / MS_PER_SECOND


def _may_reappear(run: WatchedRun) -> bool:
    """Return whether a libvirt that has just started may find the process of a fact again."""
    main = run.tasks.read_main() if run.tasks and run.judge.facts.all() else None
    return main is not None and main.state not in ("Z", "X")


def _now() -> int:
    return time.time_ns() // 1000
