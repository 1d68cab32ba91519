# SPDX-License-Identifier: Apache-2.0
"""The liveness source: rounds over all running instances, and what was found in them.

One thread looks at the instances, never asks a QEMU anything, and is the only one that decides.
The threads of the pool ask, and put what they learn into its queue.
"""

import dataclasses
import time
from typing import Any

import libvirt
from oslo_config import cfg

from vmmonitor import sources
from vmmonitor.model.event import Observation, RawEvent, SourceSnapshot
from vmmonitor.model.instance import Instance
from vmmonitor.sources import procfs
from vmmonitor.sources.libvirt import decode
from vmmonitor.sources.libvirt.connection import Connection, connect
from vmmonitor.sources.libvirt.liveness import probe, state_file
from vmmonitor.sources.libvirt.liveness.facts import Facts, Finding
from vmmonitor.sources.libvirt.liveness.judge import Judge
from vmmonitor.sources.libvirt.liveness.pool import STUCK, DomainCache, ProbePool
from vmmonitor.sources.libvirt.liveness.readings import HostReading, QemuReading
from vmmonitor.sources.libvirt.liveness.settings import settings
from vmmonitor.sources.libvirt.liveness.tasks import Tasks
from vmmonitor.sources.libvirt.reconnecting import ReconnectingSource

#: What another source tells that makes earlier measures worthless.
DISTURBING = frozenset(
    {
        *(f"lifecycle.{what}" for what in ("started", "resumed", "suspended", "stopped")),
        *("lifecycle.crashed", "lifecycle.pmsuspended", "reboot"),
        *("migration_iteration", "job_completed"),
    }
)
#: The agent's word that an instance was brought back, which ends its incident.
BROUGHT_BACK = "recovery.running"
#: Rounds in which the process of an instance is searched.
SEARCHES = 3
ACTIVE = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE
#: Milliseconds in a second.
MS = 1000


class EventlessConnection(Connection):
    """A connection that is only looked through; it brings no events."""

    def _ask(self) -> None:
        """Ask for nothing."""

    def _give_back(self, callback: int) -> None:
        """Have nothing to give back."""


@dataclasses.dataclass(slots=True)
class WatchedRun:
    """One run of one instance.

    :param domain: as the last round listed it.
    :param state: what libvirt said of it last, and its reason.
    :param searches: how many more rounds look for its process.
    """

    domain: libvirt.virDomain
    run_id: int
    name: str
    judge: Judge
    tasks: Tasks | None = None
    state: tuple[str, str] = ("", "")
    searches: int = SEARCHES

    @property
    def run(self) -> str:
        """Tell this run from any other, also after a restart of the host."""
        process = self.tasks.process if self.tasks else None
        return f"{self.run_id}:{process.pid}:{process.started}" if process else f"{self.run_id}"


@dataclasses.dataclass(frozen=True, slots=True)
class ProbeResult:
    """What came of asking the QEMU of one run of an instance; None: it was not asked."""

    uuid: str
    run_id: int
    answer: QemuReading | None


@dataclasses.dataclass(frozen=True, slots=True)
class PingResult:
    """What came of a ping of a guest agent."""

    uuid: str
    run_id: int
    speaks: bool
    at: float


class LivenessSource(ReconnectingSource):
    """Finds QEMUs that hang, guests that hang, and what no event told."""

    name = "liveness"

    def __init__(self, conf: cfg.ConfigOpts, observe: sources.Observe):
        """Keep what is needed; start nothing."""
        super().__init__(conf, observe)
        options = conf.liveness
        self._settings = settings(options)
        self._ping = options.guest_agent
        self._read_only = conf.libvirt.read_only and not self._ping
        self._path = options.facts_file
        self._watched: dict[str, WatchedRun] = {}
        self._round_at = 0.0
        #: uuid of an instance that is paused -> the reason that another source told.
        self._told_pauses: dict[str, str] = {}
        self._remembered = state_file.read(self._path)
        self._pool = ProbePool(lambda: connect(conf.libvirt, self._read_only))

    def stop(self) -> None:
        """Stop watching. Stopping twice does nothing."""
        self._pool.stop()
        super().stop()

    def follow(self, observation: Observation) -> None:
        """Learn of what disturbs the measures, and of pauses that are told already."""
        if isinstance(observation, SourceSnapshot) or (
            isinstance(observation, RawEvent) and observation.type in DISTURBING | {BROUGHT_BACK}
        ):
            self._queue.put(observation)

    # -- the thread ----------------------------------------------------------------------------
    def _open(self) -> Connection:
        return EventlessConnection(self.conf.libvirt, self._read_only, self._queue.put)

    def _listen(self, connection: Connection) -> None:
        self._round_at = time.monotonic()
        while not self._stopping.is_set():
            if self._round_at <= time.monotonic():
                self._round_at = time.monotonic() + self._settings.interval
                self._round(connection.libvirt)
                self._reach(True)
            self._look_again()
            self._take(self._pause())

    def _pause(self) -> float:
        """Return the seconds until there is something to do."""
        due = (watched.judge.due() for watched in self._watched.values())
        when = min([self._round_at, *(at for at in due if at is not None)])
        pause = max(0.0, when - time.monotonic())
        return min(pause, STUCK / 2) if self._pool.tend() else pause

    def _arrived(self, item: Any) -> bool:
        if isinstance(item, ProbeResult | PingResult):
            watched = self._watched.get(item.uuid)
            if watched and watched.run_id == item.run_id:
                self._learn(item, watched)
        elif isinstance(item, SourceSnapshot):
            for seen in item.seen:
                self._take_pause(seen.instance.uuid, seen.state, seen.reason)
        else:
            uuid = item.instance.uuid
            self._take_pause(uuid, item.type.removeprefix("lifecycle."), item.detail)
            if watched := self._watched.get(uuid):
                watched.judge.disturbed()
                if item.type == BROUGHT_BACK:
                    watched.judge.facts.forget_serious()
                    self._keep()
        return False

    def _learn(self, item: ProbeResult | PingResult, watched: WatchedRun) -> None:
        if isinstance(item, PingResult):
            words = watched.judge.agent_answered(item.speaks, item.at, _now())
        elif item.answer is None:
            watched.judge.not_asked()
            words = []
        else:
            words = watched.judge.answered(item.answer, _now())
        self._tell(item.uuid, watched, words)

    def _take_pause(self, uuid: str, state: str, reason: str) -> None:
        """Remember why an instance is paused, if somebody else has told that."""
        if state in ("paused", "suspended"):
            self._told_pauses[uuid] = reason
        elif state == "crashed":
            self._told_pauses[uuid] = "crashed"
        elif state in ("running", "started", "resumed", "shutoff", "stopped"):
            self._told_pauses.pop(uuid, None)

    # -- a round -------------------------------------------------------------------------------
    def _round(self, connection: libvirt.virConnect) -> None:
        self._list(connection)
        for uuid, watched in list(self._watched.items()):
            if self._look(uuid, watched) and watched.judge.may_be_asked():
                self._submit(uuid, watched)

    def _list(self, connection: libvirt.virConnect) -> None:
        """Begin with what runs anew, and forget what runs no more."""
        before, now = self._watched, {}
        # All at once; this group is the one that asks no QEMU.
        for domain, said in connection.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_STATE, ACTIVE):
            uuid, run_id = domain.UUIDString(), domain.ID()
            watched = before.get(uuid)
            if watched is None or watched.run_id != run_id:
                name = decode.plain(domain.name())
                watched = WatchedRun(domain, run_id, name, Judge(self._settings, Facts()))
            watched.domain = domain
            watched.state = decode.state(said["state.state"], said["state.reason"])
            now[uuid] = watched
        for uuid, watched in before.items():
            if uuid not in now and _still_there(watched):
                now[uuid] = watched
        self._watched = now
        self._find_processes()
        self._remember()
        if any(one.judge.facts.all() and now.get(uuid) is not one for uuid, one in before.items()):
            self._keep()

    def _find_processes(self) -> None:
        wanted = {
            uuid: one
            for uuid, one in self._watched.items()
            if one.tasks is None and one.searches > 0
        }
        found = procfs.find(wanted) if wanted else {}
        for uuid, watched in wanted.items():
            watched.searches -= 1
            watched.tasks = Tasks(found[uuid]) if uuid in found else None

    def _remember(self) -> None:
        """Go on, after a restart of the agent, from what was told before it."""
        for uuid in self._remembered.keys() & self._watched.keys():
            run, told = self._remembered.pop(uuid)
            if self._watched[uuid].run == run:
                self._watched[uuid].judge.facts = Facts(told)

    def _look_again(self) -> None:
        """Look at those of which something may be certain before the next round."""
        for uuid, watched in list(self._watched.items()):
            due = watched.judge.due()
            if due is not None and due <= time.monotonic():
                self._look(uuid, watched, anew=True)

    def _look(self, uuid: str, watched: WatchedRun, anew: bool = False) -> bool:
        """Look at an instance; False if it is gone.

        :param anew: its state may have changed since the round began.
        :raises libvirt.libvirtError: libvirt is gone.
        """
        occupied_s = main = None
        try:
            if anew:
                watched.state = decode.state(*watched.domain.state())
            if watched.judge.unanswered:
                occupied_s = _occupied_s(watched.domain)
                main = watched.tasks.main() if watched.tasks else None
        except libvirt.libvirtError:
            if not watched.domain.connect().isAlive():
                raise
            watched.judge.not_seen()
            return False
        state, reason = watched.state
        look = HostReading(
            at=time.monotonic(),
            state=state,
            reason=reason,
            occupied_s=occupied_s,
            main=main,
        )
        watched.judge.pause_told(self._told_pauses.get(uuid, ""))
        self._tell(uuid, watched, watched.judge.look(look, _now()))
        return True

    # -- asking --------------------------------------------------------------------------------
    def _submit(self, uuid: str, watched: WatchedRun) -> None:
        run_id, tasks = watched.run_id, watched.tasks
        wanted = watched.judge.wants_complete(), watched.judge.wants_disk_errors()

        def job(domains: DomainCache) -> None:
            answer = None
            try:
                answer = probe.ask(domains, uuid, tasks, *wanted)
            finally:
                self._queue.put(ProbeResult(uuid, run_id, answer))
            speaks = probe.ping(domains, uuid) if answer and self._ping else None
            if speaks is not None:
                self._queue.put(PingResult(uuid, run_id, speaks, time.monotonic()))

        # Where the last question is still open, that one goes on counting.
        self._pool.submit(uuid, job)
        watched.judge.asked(time.monotonic())

    # -- telling -------------------------------------------------------------------------------
    def _tell(self, uuid: str, watched: WatchedRun, words: list[Finding]) -> None:
        for word in words:
            self.observe(
                RawEvent(
                    source=self.name,
                    type=word.type,
                    detail=word.detail,
                    occurred_at=_now(),
                    instance=Instance(uuid=uuid, name=watched.name, hypervisor_name=watched.name),
                    attributes=word.attributes,
                )
            )
        if words:
            self._keep()

    def _keep(self) -> None:
        told = {
            uuid: (watched.run, watched.judge.facts.all())
            for uuid, watched in self._watched.items()
            if watched.judge.facts.all()
        }
        state_file.write(self._path, told)


def _occupied_s(domain: libvirt.virDomain) -> float | None:
    """Return for how long QEMU has been at a command, None if it is not."""
    control, _, since_ms = domain.controlInfo()
    return since_ms / MS if control == libvirt.VIR_DOMAIN_CONTROL_OCCUPIED else None


def _still_there(watched: WatchedRun) -> bool:
    """Whether facts last about a process that libvirt, having just started, may find again."""
    main = watched.tasks.main() if watched.tasks and watched.judge.facts.all() else None
    return main is not None and main.state not in ("Z", "X")


def _now() -> int:
    return time.time_ns() // 1000
