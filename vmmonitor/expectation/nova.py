# SPDX-License-Identifier: Apache-2.0
"""What nova says that instances should be doing, and where."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from oslo_config import cfg

from vmmonitor.expectation import Expectation, operations
from vmmonitor.expectation.libvirt import STATES, LibvirtExpectation
from vmmonitor.expectation.nova_choice import Choice
from vmmonitor.model import instance as states
from vmmonitor.model.desired import DesiredSnapshot, DesiredState, DesiredStatus
from vmmonitor.model.errors import Retriable
from vmmonitor.model.event import RUNNING_AGAIN, WITHOUT_A_CAUSE, Event
from vmmonitor.model.incident import Incident, Verdict, VerdictKind
from vmmonitor.model.instance import Instance
from vmmonitor.model.observed import ObservedInstance
from vmmonitor.model.recovery import Recovery
from vmmonitor.openstack import nova
from vmmonitor.openstack.glance import GlanceAPI, Silent
from vmmonitor.openstack.memory import Memory
from vmmonitor.openstack.nova import AT_REST, HOST, POWER, RUNNING, STATE, TASK, microseconds

#: Seconds by which surveys overlap: the clocks of nova's services differ, and so does ours.
OVERLAP = 120
#: The same, in microseconds, for what was done since a recovery began; nova's database keeps
#: whole seconds.
SKEW = 5_000_000
#: Seconds for which it is remembered whether a host is in maintenance.
MAINTENANCE_SECONDS = 5

#: vm_state -> what a survey says; BUSY where it is not here.
DOING = {
    "active": DesiredStatus.RUNNING,
    "stopped": DesiredStatus.STOPPED,
    "paused": DesiredStatus.PAUSED,
    "suspended": DesiredStatus.STOPPED,
    "shelved": DesiredStatus.STOPPED,
    "shelved_offloaded": DesiredStatus.STOPPED,
    "soft-delete": DesiredStatus.STOPPED,
    "deleted": DesiredStatus.GONE,
}
#: ``host_status`` of a host that is not disabled. DOWN may be, which is by force.
ENABLED = ("UP", "UNKNOWN")

#: Actions after which an instance runs, if they succeed.
RUNS_AFTER = frozenset(
    {
        *("create", "start", "reboot", "rebuild", "evacuate", "unpause", "resume", "unrescue"),
        *("unshelve", "restore", "migrate", "live-migration", "confirmResize", "revertResize"),
    }
)


class NovaExpectation(Expectation):
    """Goes by nova; where nova says that an instance should run, also by what its host says."""

    ASKED = "nova"
    QUESTION = "whether it should run here"

    def __init__(self, conf: cfg.ConfigOpts, now: Callable[[], int] | None = None):
        """Keep what is needed; connect to nothing yet.

        :param now: microseconds since the epoch.
        """
        super().__init__(conf)
        self._nova = nova.connection(conf)
        self._choice = Choice(conf, self._nova, GlanceAPI(conf))
        self._maintenance: Memory[str] = Memory(MAINTENANCE_SECONDS)
        self._host_says = LibvirtExpectation(conf)
        self._now = now or (lambda: time.time_ns() // 1000)

    # -- one -----------------------------------------------------------------------------------
    def judge(self, incident: Incident, events: Sequence[Event]) -> Verdict:
        """Ask nova about an incident's instance, unless nova has told that it works on it.

        :param events: the incident's, and nova's of the time before it, oldest first.
        """
        plan = operations.plan(incident, events)
        if plan and plan.leaves == operations.DOWN and not plan.over:
            return Verdict(kind=VerdictKind.PLANNED, reason=plan.words)
        uuid = incident.instance.uuid
        try:
            server = self._nova.server(uuid)
            if server is None:
                return Verdict(
                    kind=VerdictKind.GONE, reason="nova does not know it: it was deleted"
                )
            verdict = self._excused(incident, server) or self._by_state(incident, events, server)
            return (
                self._weighed(server, verdict) if verdict.kind == VerdictKind.FAILED else verdict
            )
        except Retriable as error:
            who = "glance" if isinstance(error, Silent) else "nova"
            unknown = Verdict(kind=VerdictKind.UNKNOWN, reason=f"{who} cannot be asked: {error}")
            return operations.judge(incident, events, unknown)

    def _excused(self, incident: Incident, server: Mapping[str, Any]) -> Verdict | None:
        """Return why the instance is to be left alone here, whatever state it is in."""
        if not server.get(STATE):
            reason = "nova does not tell its state: its cell is down, or we are no administrator"
            return Verdict(kind=VerdictKind.UNKNOWN, reason=reason)
        if server.get(HOST) and server[HOST] != incident.host:
            reason = f"nova has it on host {server[HOST]}, not on {incident.host}"
            return Verdict(kind=VerdictKind.PLANNED, reason=reason)
        if task := server.get(TASK):
            return Verdict(kind=VerdictKind.PLANNED, reason=f"nova is at work on it: {task}")
        if server.get("locked") and not self.conf.nova.recover_locked:
            return Verdict(kind=VerdictKind.PLANNED, reason="it is locked in nova")
        return self._opted_out(server)

    def _opted_out(self, server: Mapping[str, Any]) -> Verdict | None:
        wanted, who = self._choice.recovers(server, str(server.get(HOST) or ""))
        if wanted:
            return None
        return Verdict(kind=VerdictKind.PLANNED, reason=f"it is not to be recovered: {who}")

    def _weighed(self, server: Mapping[str, Any], failed: Verdict) -> Verdict:
        """Add to the verdict on a failure who wants it recovered, how important that is, and
        whether its host is in maintenance."""
        _, who = self._choice.recovers(server, str(server.get(HOST) or ""))
        priority, trouble = self._choice.priority(server)
        closed = self._in_maintenance(server)
        priority_said = f"its priority is {priority}" if priority else trouble
        reason = "; ".join(filter(None, (failed.reason, who, priority_said, closed)))
        word = VerdictKind.MUTED if closed else VerdictKind.FAILED
        return Verdict(kind=word, reason=reason, priority=priority)

    def _in_maintenance(self, server: Mapping[str, Any]) -> str:
        """Return why a server's host is in maintenance; empty if it is not."""
        host = str(server.get(HOST) or "")
        if not self.conf.nova.respect_disabled or not host:
            return ""
        if server.get("host_status") in ENABLED:
            return ""
        return self._maintenance.get(host, lambda: self._disabled(host))

    def _disabled(self, host: str) -> str:
        service = self._nova.compute(host) or {}
        reason = str(service.get("disabled_reason") or "")
        if service.get("status") != "disabled" or reason.startswith(nova.OURS):
            return ""
        said = f" ({reason[:100]})" if reason else ""
        return f"nova-compute on {host} is disabled{said}: the host is in maintenance"

    def _by_state(
        self, incident: Incident, events: Sequence[Event], server: Mapping[str, Any]
    ) -> Verdict:
        state = str(server[STATE])
        if state == "active":
            if not server.get(HOST):
                return Verdict(
                    kind=VerdictKind.UNKNOWN, reason="nova does not tell on which host it is"
                )
            return self._should_run(incident, events)
        if state == "stopped" and (whose := self._stopped_by(incident)):
            return self._found_dead(incident, events, whose)
        meaning = AT_REST.get(state, f"its state in nova is {state}")
        return Verdict(
            kind=VerdictKind.GONE if state == "deleted" else VerdictKind.PLANNED, reason=meaning
        )

    def _should_run(self, incident: Incident, events: Sequence[Event]) -> Verdict:
        """Return what it means, by its host's word, that an instance does not run that should."""
        said = self._host_says.by_cause(incident, events)
        if (
            said.kind == VerdictKind.PLANNED
            or said.kind == VerdictKind.UNKNOWN
            and not _stopped(incident, events)
        ):
            return said
        reason = f"nova says that it should run here: active, nothing in progress; {said.reason}"
        return Verdict(kind=VerdictKind.FAILED, reason=reason)

    def _stopped_by(self, incident: Incident) -> str:
        """Return in words that nova stopped it of its own accord, as it does when it finds one
        dead, or that we had it stopped, to start it; empty if it was somebody else."""
        newest = next(iter(self._nova.actions(incident.instance.uuid)), {})
        if newest.get("action") != "stop":
            return ""
        if not newest.get("user_id"):
            return "nobody asked nova to stop it, nova found it not running"
        if newest["user_id"] == self._nova.user_id():
            return "vmmonitor had nova stop it, to start it again, and did not come to that"
        return ""

    def _found_dead(self, incident: Incident, events: Sequence[Event], whose: str) -> Verdict:
        said = self._host_says.by_cause(incident, events)
        if said.kind == VerdictKind.PLANNED:
            return said
        word = said.kind if said.kind == VerdictKind.UNKNOWN else VerdictKind.FAILED
        return Verdict(kind=word, reason=f"{whose}; {said.reason}")

    def is_active(self, recovery: Recovery) -> bool:
        """Ask nova whether it has brought the instance of a recovery back.

        That nova calls it active proves nothing: so it does for some 15 s after a crash. What
        proves it is an action which leaves it running, that is over and has succeeded, and that
        is newer than the recovery. The ``nova`` driver itself says so only once its action is
        on record, however long ago that was done: after it, the newest will do.
        """
        try:
            return self._brought_back(recovery)
        except Retriable:
            return False

    def _brought_back(self, recovery: Recovery) -> bool:
        uuid = recovery.instance_uuid
        # First, so that what it has set cannot be missed below.
        newest = next(iter(self._nova.actions(uuid)), {})
        server = self._nova.server(uuid) or {}
        if (server.get(STATE), server.get(TASK), server.get(POWER)) != ("active", None, RUNNING):
            return False
        since = 0 if recovery.driver == nova.GROUP else recovery.created_at - SKEW
        began = microseconds(newest.get("start_time"))
        if str(newest.get("action")) not in RUNS_AFTER or began < since:
            return False
        steps = self._nova.steps(uuid, str(newest.get("request_id")))
        return bool(steps) and all(one.get("result") == "Success" for one in steps)

    # -- all -----------------------------------------------------------------------------------
    def aggregates(self) -> Mapping[str, Collection[str]]:
        """Return nova's host aggregates.

        :raises vmmonitor.model.errors.Retriable: nova does not answer.
        """
        found = {str(one.get("name")): one.get("hosts") for one in self._nova.aggregates()}
        return {
            name: frozenset(map(str, hosts))
            for name, hosts in found.items()
            if isinstance(hosts, list)
        }

    def survey(self, since: int | None, sights: Sequence[ObservedInstance]) -> DesiredSnapshot:
        """Ask nova for all instances, or for those that changed.

        :param since: microseconds since the epoch.
        :param sights: not needed.
        :raises vmmonitor.model.errors.Retriable: nova does not answer.
        """
        until = self._now()
        after = since - OVERLAP * 1_000_000 if since is not None else None
        servers = self._nova.servers(after, self.conf.nova.page_size)
        told = [_expected(server) for server in servers]
        return DesiredSnapshot(
            states=tuple(one for one in told if one), whole=since is None, until=until
        )


def _stopped(incident: Incident, events: Sequence[Event]) -> bool:
    """Tell whether it is stopped by its host's newest word, or its host has no word on it."""
    words = [event.type for event in events if event.host == incident.host and _on_state(event)]
    return not words or states.STATE_AFTER.get(words[-1], states.SHUTOFF) == states.SHUTOFF


def _on_state(event: Event) -> bool:
    told = event.type in STATES or event.type in RUNNING_AGAIN or event.type in WITHOUT_A_CAUSE
    return told and not event.attributes.get("replaced")


def _expected(server: Mapping[str, Any]) -> DesiredState | None:
    """Return what one server of a listing should be doing; None if that is not told."""
    uuid, state = server.get("id"), server.get(STATE)
    if not isinstance(uuid, str) or not isinstance(state, str):
        return None
    doing = DOING.get(state, DesiredStatus.BUSY)
    if server.get("status") == "DELETED":
        doing = DesiredStatus.GONE
    elif server.get(TASK) or (doing == DesiredStatus.RUNNING and not server.get(HOST)):
        doing = DesiredStatus.BUSY
    return DesiredState(
        instance=_instance(uuid, server),
        host=str(server.get(HOST) or ""),
        state=doing,
        updated_at=microseconds(server.get("updated")),
    )


def _instance(uuid: str, server: Mapping[str, Any]) -> Instance:
    flavor = server.get("flavor")
    named = flavor.get("original_name") if isinstance(flavor, Mapping) else ""
    return Instance(
        uuid=uuid,
        name=str(server.get("name") or ""),
        hypervisor_name=str(server.get("OS-EXT-SRV-ATTR:instance_name") or ""),
        project_id=str(server.get("tenant_id") or ""),
        user_id=str(server.get("user_id") or ""),
        flavor=str(named or ""),
    )
