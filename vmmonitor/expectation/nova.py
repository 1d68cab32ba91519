# SPDX-License-Identifier: Apache-2.0
"""The expectation for a cloud: the desired state and the host of each server according to nova."""

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import cachetools
from oslo_config import cfg

from vmmonitor.expectation import Expectation, operations
from vmmonitor.expectation.libvirt import STATE_TYPES, LibvirtExpectation
from vmmonitor.expectation.recovery_settings import RecoverySettings
from vmmonitor.model import instance as states
from vmmonitor.model.desired import DesiredSnapshot, DesiredState, DesiredStatus
from vmmonitor.model.errors import Retriable
from vmmonitor.model.event import RUNNING_AGAIN, WITHOUT_A_CAUSE, Event
from vmmonitor.model.incident import Incident, Verdict, VerdictKind
from vmmonitor.model.instance import Instance
from vmmonitor.model.observed import ObservedInstance
from vmmonitor.model.recovery import Recovery
from vmmonitor.model.states import IncidentState
from vmmonitor.openstack import nova
from vmmonitor.openstack.glance import GlanceAPI, GlanceUnavailable
from vmmonitor.openstack.nova import (
    DISABLED_REASON_PREFIX,
    NOVA_CLOCK_TOLERANCE,
    POWER_RUNNING,
    POWER_STATE,
    SERVER_HOST,
    TASK_STATE,
    VM_STATE,
    NovaAPI,
    to_microseconds,
)
from vmmonitor.openstack.server_states import NOWHERE, ServerState, SituationName, read_state

#: Verdicts that end an incident.
FINAL_KINDS = (VerdictKind.PLANNED, VerdictKind.GONE)
#: Overlap of surveys, in seconds, because the clocks of nova's services differ.
OVERLAP = 120
#: Lifetime of the cached maintenance of a host, in seconds.
MAINTENANCE_TTL = 5
#: Maximum number of hosts in that cache.
MAX_HOSTS = 1000

#: vm_state -> desired state; BUSY for any other state.
DESIRED_STATES = {
    "active": DesiredStatus.RUNNING,
    "stopped": DesiredStatus.STOPPED,
    "paused": DesiredStatus.PAUSED,
    "suspended": DesiredStatus.STOPPED,
    "shelved": DesiredStatus.STOPPED,
    "shelved_offloaded": DesiredStatus.STOPPED,
    "soft-delete": DesiredStatus.STOPPED,
    "deleted": DesiredStatus.GONE,
}
#: ``host_status`` of a host that is not disabled. A host with DOWN may be disabled.
ENABLED_HOST_STATUSES = ("UP", "UNKNOWN")

#: Actions that leave the instance running if they succeed.
ACTIONS_TO_RUNNING = frozenset(
    {
        *("create", "start", "reboot", "rebuild", "evacuate", "unpause", "resume", "unrescue"),
        *("unshelve", "restore", "migrate", "live-migration", "confirmResize", "revertResize"),
    }
)

#: Types of events about the state of an instance, including those that only report an end.
REPORTED_TYPES = STATE_TYPES | RUNNING_AGAIN | WITHOUT_A_CAUSE


class NovaExpectation(Expectation):
    """Uses the state in nova; for a server that should run, also the events of its host."""

    ASKED = "nova"
    QUESTION = "whether it should run here"
    NAMES_HOST = True

    def __init__(self, conf: cfg.ConfigOpts, now: Callable[[], int] | None = None):
        """Create the clients; do not connect yet.

        :param now: returns the time in microseconds since the epoch.
        """
        super().__init__(conf)
        self._nova = nova.shared_api(conf)
        self._settings = RecoverySettings(conf, self._nova, GlanceAPI(conf))
        self._maintenance_reason = cachetools.cached(
            cachetools.TTLCache(MAX_HOSTS, MAINTENANCE_TTL), lock=threading.Lock()
        )(self._read_maintenance_reason)
        self._by_events = LibvirtExpectation(conf)
        self._now = now or (lambda: time.time_ns() // 1000)

    # -- one instance --------------------------------------------------------------------------
    def judge(self, incident: Incident, events: Sequence[Event]) -> Verdict:
        """Query nova about the server, unless an event reports an operation in progress.

        :param events: events of the incident, and earlier events of nova, oldest first.
        """
        by_events = self._by_events.judge_by_cause(incident, events)
        operation = operations.current_operation(incident, events)
        if operation and operation.explains(by_events) and not operation.is_over:
            return Verdict(kind=VerdictKind.PLANNED, reason=str(operation))
        try:
            server = self._nova.get_server(incident.instance.uuid)
            if server is None:
                reason = "the server does not exist in nova: it was deleted"
                return Verdict(kind=VerdictKind.GONE, reason=reason)
            verdict = self._judge_exceptions(incident, server, by_events)
            verdict = verdict or self._judge_state(incident, events, server, by_events)
            is_failed = verdict.kind == VerdictKind.FAILED
            return self._add_settings(server, verdict) if is_failed else verdict
        except Retriable as error:
            service = "glance" if isinstance(error, GlanceUnavailable) else "nova"
            reason = f"the request to {service} failed: {error}"
            unknown = Verdict(kind=VerdictKind.UNKNOWN, reason=reason)
            is_explained = operation is None or operation.explains(by_events)
            return operations.judge(incident, events, unknown) if is_explained else unknown

    def _judge_exceptions(
        self, incident: Incident, server: Mapping[str, Any], by_events: Verdict
    ) -> Verdict | None:
        """Return a verdict if the server must not be touched here in any state, else None."""
        if not server.get(VM_STATE):
            reason = (
                "nova does not return the state of the server: its cell is down, or the role "
                "admin is missing"
            )
            return Verdict(kind=VerdictKind.UNKNOWN, reason=reason)
        host = server.get(SERVER_HOST)
        if host and host != incident.host:
            return self._judge_other_host(incident, server, by_events)
        reason = ""
        if server.get("locked") and not self.conf.nova.recover_locked:
            reason = "the server is locked in nova"
        else:
            wanted, setting = self._settings.wants_recovery(server, str(host or ""))
            if not wanted:
                reason = f"the server is not to be recovered: {setting}"
        return Verdict(kind=VerdictKind.PLANNED, reason=reason) if reason else None

    def _judge_other_host(
        self, incident: Incident, server: Mapping[str, Any], by_events: Verdict
    ) -> Verdict:
        """Return the verdict on a failure on another host than the server has in nova.

        During an operation of nova the guest may run on either host; after an operation that
        failed, on none. A host without an agent that reports may be another name of the incident's
        host, and nothing would report the guest there.
        """
        host = str(server[SERVER_HOST])
        reason = f"the server is on host {host} in nova, not on {incident.host}"
        if by_events.kind == VerdictKind.PLANNED:
            return Verdict(kind=VerdictKind.PLANNED, reason=reason)
        state = self._read_state(server, incident)
        kind = VerdictKind.PLANNED
        if state.name == SituationName.TASK:
            kind, reason = VerdictKind.UNKNOWN, f"{reason}; {state.reason}"
        elif not self.is_reporting(host):
            kind = VerdictKind.UNKNOWN
            reason += f"; no agent reports as {host}: check the option host of its agent"
        elif state.name in NOWHERE:
            # A migration failed: the complete disks may be on either host.
            kind, reason = VerdictKind.MANUAL, f"{reason}, and {state.reason}"
        return Verdict(kind=kind, reason=reason)

    def _read_state(self, server: Mapping[str, Any], incident: Incident) -> ServerState:
        uuid = incident.instance.uuid
        return read_state(server, lambda: self._nova.list_actions(uuid), self._nova.user_id)

    def _add_settings(self, server: Mapping[str, Any], failed: Verdict) -> Verdict:
        """Add the settings and the priority to a FAILED verdict; mute it for maintenance."""
        _, setting = self._settings.wants_recovery(server, str(server.get(SERVER_HOST) or ""))
        priority, warning = self._settings.priority(server)
        maintenance = self._host_maintenance(server)
        priority_text = f"its priority is {priority}" if priority else warning
        reason = "; ".join(filter(None, (failed.reason, setting, priority_text, maintenance)))
        kind = VerdictKind.MUTED if maintenance else VerdictKind.FAILED
        return Verdict(kind=kind, reason=reason, priority=priority)

    def _host_maintenance(self, server: Mapping[str, Any]) -> str:
        """Return the reason why the server's host is in maintenance, or ''."""
        host = str(server.get(SERVER_HOST) or "")
        if not self.conf.nova.respect_disabled or not host:
            return ""
        if server.get("host_status") in ENABLED_HOST_STATUSES:
            return ""
        return self._maintenance_reason(host)

    def _read_maintenance_reason(self, host: str) -> str:
        service = self._nova.get_compute_service(host) or {}
        reason = str(service.get("disabled_reason") or "")
        is_own = reason.startswith(DISABLED_REASON_PREFIX)
        if service.get("status") != "disabled" or is_own:
            return ""
        suffix = f" ({reason[:100]})" if reason else ""
        return f"nova-compute on {host} is disabled{suffix}: the host is in maintenance"

    def _judge_state(
        self,
        incident: Incident,
        events: Sequence[Event],
        server: Mapping[str, Any],
        by_events: Verdict,
    ) -> Verdict:
        """Return the verdict by the state in nova and by the events of the host."""
        if by_events.kind == VerdictKind.PLANNED and server[VM_STATE] != "deleted":
            return by_events
        if not server.get(SERVER_HOST) and server[VM_STATE] == "active":
            reason = "nova does not return the host of the server"
            return Verdict(kind=VerdictKind.UNKNOWN, reason=reason)
        if _has_only_exited(incident, events) and self.is_running(
            incident.host, incident.instance.uuid
        ):
            reason = f"{by_events.reason}; its host reports that it runs"
            return Verdict(kind=VerdictKind.UNKNOWN, reason=reason)
        state = self._read_state(server, incident)
        kind, reason = state.situation.failure, f"{state.reason}; {by_events.reason}"
        if by_events.kind == VerdictKind.UNKNOWN:
            # A failure without a reason was confirmed before nova found the server dead.
            is_confirmed = incident.state == IncidentState.RECOVERING
            kind = kind if is_confirmed else state.situation.no_reason
            if kind not in FINAL_KINDS and not _is_stopped(incident, events):
                return by_events
        return Verdict(kind=kind, reason=reason)

    def locate(self, instance_uuid: str) -> str:
        """Return the host of a server in nova; empty during an operation.

        :raises vmmonitor.model.errors.Retriable: nova does not respond.
        """
        server = self._nova.get_server(instance_uuid) or {}
        return "" if server.get(TASK_STATE) else str(server.get(SERVER_HOST) or "")

    def is_active(self, recovery: Recovery) -> bool:
        """Return whether nova has brought the instance of a recovery back.

        The state active does not prove that: nova keeps it for about 15 s after a crash. The proof
        is a successful action that leaves the server running and is newer than the recovery. After
        the ``nova`` driver the newest action counts at any age, because the driver returns only
        when its action is recorded.
        """
        try:
            return self._is_running_after_action(recovery)
        except Retriable:
            return False

    def _is_running_after_action(self, recovery: Recovery) -> bool:
        uuid = recovery.instance_uuid
        # Read the action before the server, so that the states below are at least as new.
        newest = next(iter(self._nova.list_actions(uuid)), {})
        server = self._nova.get_server(uuid) or {}
        state = (server.get(VM_STATE), server.get(TASK_STATE), server.get(POWER_STATE))
        if state != ("active", None, POWER_RUNNING):
            return False
        is_own = recovery.driver == NovaAPI.GROUP
        since = 0 if is_own else recovery.created_at - NOVA_CLOCK_TOLERANCE
        started_at = to_microseconds(newest.get("start_time"))
        if str(newest.get("action")) not in ACTIONS_TO_RUNNING or started_at < since:
            return False
        events = self._nova.list_action_events(uuid, str(newest.get("request_id")))
        return bool(events) and all(event.get("result") == "Success" for event in events)

    # -- all instances -------------------------------------------------------------------------
    def aggregates(self) -> Mapping[str, Collection[str]]:
        """Return the hosts of nova's host aggregates.

        :raises vmmonitor.model.errors.Retriable: nova does not respond.
        """
        hosts_of = {
            str(aggregate.get("name")): aggregate.get("hosts")
            for aggregate in self._nova.list_aggregates()
        }
        return {
            name: frozenset(map(str, hosts))
            for name, hosts in hosts_of.items()
            if isinstance(hosts, list)
        }

    def survey(self, since: int | None, observed: Sequence[ObservedInstance]) -> DesiredSnapshot:
        """Return the desired state of all servers in nova, or of the changed ones.

        :param since: microseconds since the epoch.
        :param observed: unused.
        :raises vmmonitor.model.errors.Retriable: nova does not respond.
        """
        until = self._now()
        after = since - OVERLAP * 1_000_000 if since is not None else None
        servers = self._nova.list_servers(after, self.conf.nova.page_size)
        found = (_read_desired_state(server) for server in servers)
        return DesiredSnapshot(
            states=tuple(state for state in found if state), whole=since is None, until=until
        )


def _is_stopped(incident: Incident, events: Sequence[Event]) -> bool:
    """Return whether the host's newest event is a stop, or the host sent no event on the state."""
    types = [
        event.type for event in events if event.host == incident.host and _concerns_state(event)
    ]
    return not types or states.STATE_AFTER.get(types[-1], states.SHUTOFF) == states.SHUTOFF


def _has_only_exited(incident: Incident, events: Sequence[Event]) -> bool:
    """Return whether the host's newest event on the state is the end of a process alone.

    Any user of a host can start and end a process that looks like that of an instance.
    """
    types = [
        event.type for event in events if event.host == incident.host and _concerns_state(event)
    ]
    return bool(types) and types[-1] in WITHOUT_A_CAUSE


def _concerns_state(event: Event) -> bool:
    return event.type in REPORTED_TYPES and not event.attributes.get("replaced")


def _read_desired_state(server: Mapping[str, Any]) -> DesiredState | None:
    """Return the desired state of one server of a list, or None if nova does not return it."""
    uuid, vm_state = server.get("id"), server.get(VM_STATE)
    if not isinstance(uuid, str) or not isinstance(vm_state, str):
        return None
    state = DESIRED_STATES.get(vm_state, DesiredStatus.BUSY)
    is_placed = bool(server.get(SERVER_HOST))
    if server.get("status") == "DELETED":
        state = DesiredStatus.GONE
    elif server.get(TASK_STATE) or (state == DesiredStatus.RUNNING and not is_placed):
        state = DesiredStatus.BUSY
    return DesiredState(
        instance=_read_instance(uuid, server),
        host=str(server.get(SERVER_HOST) or ""),
        state=state,
        updated_at=to_microseconds(server.get("updated")),
    )


def _read_instance(uuid: str, server: Mapping[str, Any]) -> Instance:
    flavor = server.get("flavor")
    flavor_name = flavor.get("original_name") if isinstance(flavor, Mapping) else ""
    return Instance(
        uuid=uuid,
        name=str(server.get("name") or ""),
        hypervisor_name=str(server.get("OS-EXT-SRV-ATTR:instance_name") or ""),
        project_id=str(server.get("tenant_id") or ""),
        user_id=str(server.get("user_id") or ""),
        flavor=str(flavor_name or ""),
    )
