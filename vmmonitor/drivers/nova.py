# SPDX-License-Identifier: Apache-2.0
"""Have nova recover a server: reboot it, stop and start it, or evacuate it.

nova accepts a request, responds at once, and carries it out afterwards. A request whose response
was lost may have been accepted, so the server's actions are checked before another request.
"""

import enum
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from oslo_config import cfg

from vmmonitor.drivers import Driver, HostAgents
from vmmonitor.drivers.host_checks import HostChecks
from vmmonitor.drivers.libvirt import LibvirtDriver, newest_failure
from vmmonitor.drivers.nova_account import find_signs
from vmmonitor.drivers.polling import fail
from vmmonitor.model.errors import InvalidRules, NotFound, Retriable
from vmmonitor.model.incident import VerdictKind
from vmmonitor.model.recovery import Outcome, RecoveryRequest
from vmmonitor.model.states import RecoveryTransition
from vmmonitor.openstack import nova
from vmmonitor.openstack.nova import (
    NOVA_CLOCK_TOLERANCE,
    SERVER_HOST,
    TASK_STATE,
    VM_STATE,
    NovaAPI,
    NovaRejection,
)
from vmmonitor.openstack.server_states import read_state


class NovaMethod(enum.StrEnum):
    """A value of ``options: {method: ...}``."""

    #: RESUME for a server that a storage error paused, else HARD_REBOOT.
    AUTO = "auto"
    HARD_REBOOT = "hard_reboot"
    STOP_START = "stop_start"
    #: Resume through the agent.
    RESUME = "resume"
    EVACUATE = "evacuate"


#: Newest failure -> method of AUTO; HARD_REBOOT for any other failure.
#:
#: These failures left the memory of the guest intact. nova's own resume is for servers that nova
#: suspended; a server that QEMU paused is active to nova. Any other action of nova that would make
#: the server run resets it, so that the agent resumes it instead.
METHOD_OF_FAILURE = {
    "io_error/pause": NovaMethod.RESUME,
    "lifecycle.suspended/ioerror": NovaMethod.RESUME,
    "liveness.paused/ioerror": NovaMethod.RESUME,
}
#: Method -> its last action in nova's records; the server then runs.
ACTION_OF_METHOD = {
    NovaMethod.HARD_REBOOT: "reboot",
    NovaMethod.STOP_START: "start",
    NovaMethod.EVACUATE: "evacuate",
}
#: Methods that have nova start the server on its host.
RESTARTS = (NovaMethod.HARD_REBOOT, NovaMethod.STOP_START)
#: Statuses of rejections that may pass: a conflict with another operation, the account, the load.
RETRIABLE_STATUSES = frozenset({401, 408, 409, 413, 425, 429})
#: Polling interval for a server that is being stopped, in seconds.
STOP_POLL_INTERVAL = 0.5


class LeaseLost(Exception):
    """The lease of the recovery has expired: another engine may be acting on the server"""


class NovaDriver(Driver):
    """Sends nova at most one request of each kind per recovery."""

    def __init__(self, conf: cfg.ConfigOpts, agents: HostAgents):
        """Store the arguments; do not connect yet."""
        super().__init__(conf, agents)
        self._nova = nova.shared_api(conf)
        self._agent = LibvirtDriver(conf, agents)

    @classmethod
    def check_options(cls, options: Mapping[str, Any]) -> None:
        """Accept ``method``, a NovaMethod, and ``disable_compute``, a boolean."""
        for name, value in options.items():
            if name == "method" and value not in [*NovaMethod]:
                known = ", ".join(NovaMethod)
                raise InvalidRules(f"{str(value)[:40]!r} is not one of {known}", option=name)
            if name == "disable_compute" and not isinstance(value, bool):
                raise InvalidRules("must be true or false", option=name)
            if name not in ("method", "disable_compute"):
                raise InvalidRules("must be method or disable_compute", option=name)

    def check(self) -> str:
        """Read servers and compute services, which needs the rights that the methods need."""
        try:
            self._nova.user_id()
            servers = self._nova.list_servers(None, 1)
            if SERVER_HOST not in next(iter(servers), {SERVER_HOST: ""}):
                return "nova does not return the host of a server: the role admin is missing"
            self._nova.get_compute_service("")
        except Retriable as error:
            return _request_failed(error)
        return ""

    def find_warnings(self) -> Sequence[str]:
        """Return signs that people or other programs use the account of ``[nova]``."""
        try:
            return list(find_signs(self.conf, self._nova))
        except Retriable as error:
            return [_request_failed(error)]

    def recover(self, request: RecoveryRequest) -> Outcome:
        """Check the server and send one request, or leave the server alone with a reason."""
        try:
            attempt = NovaAttempt(self._nova, self.agents, request, self._agent.recover_within)
            return attempt.run()
        except LeaseLost as error:
            return _fail_for_now(str(error))
        except NotFound as error:
            return Outcome(move=RecoveryTransition.SKIP, message=str(error))
        except NovaRejection as error:
            return _rejection(error)
        except Retriable as error:
            return _fail_for_now(_request_failed(error))


class NovaAttempt:
    """One attempt to have nova recover one server."""

    def __init__(
        self,
        api: NovaAPI,
        agents: HostAgents,
        request: RecoveryRequest,
        resume: Callable[[RecoveryRequest, float], Outcome],
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ):
        """Start the time limit of the request.

        :param agents: the agents of the hosts, which report where the instance runs.
        :param resume: has the agent resume an instance within a number of seconds.
        :param clock: monotonic clock, in seconds.
        :param pause: sleeps for a number of seconds.
        """
        self._nova = api
        self._request = request
        self._uuid = request.recovery.instance_uuid
        self._host = request.incident.host
        self._method = choose_method(request)
        self._resume = resume
        self._clock = clock
        self._pause = pause
        self._deadline = clock() + request.timeout
        self._checks = HostChecks(agents, request, self._remaining)

    def run(self) -> Outcome:
        """Carry out the attempt.

        :raises vmmonitor.model.errors.VmmonitorError: an error of nova's API.
        """
        server = self._get_server()
        if not server.get(VM_STATE):
            return _fail_for_now("nova does not return the state of the server: its cell is down")
        if outcome := self._find_earlier_request(server):
            return outcome
        if task := server.get(TASK_STATE):
            return _fail_for_now(f"nova is working on the server: {task}")
        if reason := self._reason_to_skip(server):
            return Outcome(move=RecoveryTransition.SKIP, message=reason)
        if not server.get(SERVER_HOST):
            return _fail_for_now("nova does not return the host of the server")
        if outcome := self._prepare_host(server):
            return outcome
        return FUNCTION_OF_METHOD[self._method](self, server)

    # -- checks --------------------------------------------------------------------------------
    def _find_earlier_request(self, server: Mapping[str, Any]) -> Outcome | None:
        """Return the outcome of an earlier request that nova has already accepted, or None.

        Such a request may exist after a takeover, or after an earlier attempt, which ended when
        this recovery was created. A server that is being evacuated for this incident, or was
        evacuated, is never evacuated again.
        """
        recovery = self._request.recovery
        since = recovery.created_at - NOVA_CLOCK_TOLERANCE
        if self._method == NovaMethod.EVACUATE:
            since = min(since, self._request.incident.opened_at)
        elif recovery.attempt > 1:
            since -= round(self._request.timeout * 1_000_000)
        elif not self._request.taken_over:
            return None
        newest = self._newest_action()
        started_at = nova.to_microseconds(newest.get("start_time"))
        if newest.get("action") != ACTION_OF_METHOD.get(self._method) or started_at < since:
            return None
        if newest.get("message") or not self._is_own(newest):
            return None
        if task := server.get(TASK_STATE):
            message = f"nova is already carrying out the request: {task}"
            return Outcome(move=RecoveryTransition.WAIT, message=message)
        if self._failed_since(nova.to_microseconds(newest.get("updated_at"))):
            return None
        message = f"nova has already carried out the request: {newest['action']}"
        return Outcome(move=RecoveryTransition.WAIT, message=message)

    def _failed_since(self, at: int) -> bool:
        later = [
            event
            for event in self._request.events
            if event.occurred_at > at + NOVA_CLOCK_TOLERANCE
        ]
        return bool(newest_failure(later))

    def _reason_to_skip(self, server: Mapping[str, Any]) -> str:
        """Return the reason to leave the server alone, or ''."""
        host = server.get(SERVER_HOST)
        if host and host != self._host:
            return f"the server is on host {host} in nova, not on {self._host}"
        state = read_state(server, self._list_actions, self._nova.user_id)
        return "" if state.situation.failure == VerdictKind.FAILED else state.reason

    def _prepare_host(self, server: Mapping[str, Any]) -> Outcome | None:
        """Disable the host's compute service if requested.

        :returns: an outcome if the host does not allow the method, else None.
        """
        disables = self._request.options.get("disable_compute", False)
        evacuates = self._method == NovaMethod.EVACUATE
        service: Mapping[str, Any] = {}
        if evacuates or disables or server.get("host_status") != "UP":
            service = self._nova.get_compute_service(self._host, self._remaining()) or {}
        if reason := self._deny_host(service):
            return _fail_for_now(reason)
        if disables and service.get("status") == "enabled":
            self._disable_compute(str(service.get("id")))
        if reason := self._deny_method(service):
            return _fail_for_now(reason)
        return None

    def _deny_host(self, service: Mapping[str, Any]) -> str:
        """Return the reason why the compute service of the host does not allow the method, or ''.

        :param service: empty if nova does not have one, or if the host is up.
        """
        is_down = service.get("state") == "down" or service.get("forced_down") is True
        if self._method in RESTARTS and is_down:
            return (
                f"nova-compute on {self._host} is down, so nova cannot reach the server: a step "
                "with method evacuate would start it on another host"
            )
        if self._method == NovaMethod.EVACUATE and not is_down:
            return (
                f"nova-compute on {self._host} is not down; nova evacuates only from a host that "
                "is down"
            )
        return ""

    def _deny_method(self, service: Mapping[str, Any]) -> str:
        """Return the reason why the method could lead to a second copy of the guest, or ''."""
        if self._method in RESTARTS:
            return self._checks.deny_restart()
        if self._method == NovaMethod.EVACUATE:
            return self._checks.deny_evacuation(service)
        return ""

    def _disable_compute(self, service_id: str) -> None:
        incident = self._request.incident
        reason = f"{incident.cause}, incident {incident.incident_id}"
        self._check_lease()
        self._nova.disable_compute_service(service_id, reason, self._remaining())

    def _newest_action(self) -> Mapping[str, Any]:
        return next(iter(self._list_actions()), {})

    def _list_actions(self) -> Sequence[Mapping[str, Any]]:
        return self._nova.list_actions(self._uuid, self._remaining())

    def _is_own(self, action: Mapping[str, Any]) -> bool:
        return bool(action.get("user_id")) and action["user_id"] == self._nova.user_id()

    # -- methods -------------------------------------------------------------------------------
    def hard_reboot(self, server: Mapping[str, Any]) -> Outcome:
        """Reboot the server, also if it is stopped or in the error state."""
        self._start_action("reboot", {"type": "HARD"})
        return _requested("a hard reboot", server)

    def stop_start(self, server: Mapping[str, Any]) -> Outcome:
        """Stop and start the server; reset the error state first, or nova refuses to stop it."""
        if server[VM_STATE] == "error":
            self._start_action("os-resetState", {"state": "active"})
        if server[VM_STATE] != "stopped":
            self._start_action("os-stop", None)
            if not self._wait_until_stopped():
                return _fail_for_now("nova has not stopped the server in time")
        self._start_action("os-start", None)
        return _requested("a start", server)

    def evacuate(self, server: Mapping[str, Any]) -> Outcome:
        """Evacuate the server; reset a stopped server to active, so that nova starts it."""
        if server[VM_STATE] == "stopped":
            self._start_action("os-resetState", {"state": "active"})
        self._start_action("evacuate", {})
        return _requested("an evacuation", server)

    def resume(self, server: Mapping[str, Any]) -> Outcome:
        """Have the agent resume the instance; it recognizes the recovery by its id."""
        return self._resume(self._request, self._remaining())

    def _wait_until_stopped(self) -> bool:
        """Poll the server until it is stopped; return False at the deadline."""
        while self._remaining() > STOP_POLL_INTERVAL:
            server = self._get_server()
            if not server.get(TASK_STATE):
                return server.get(VM_STATE) == "stopped"
            self._pause(STOP_POLL_INTERVAL)
        return False

    # -- requests ------------------------------------------------------------------------------
    def _get_server(self) -> Mapping[str, Any]:
        server = self._nova.get_server(self._uuid, self._remaining())
        if server is None:
            raise NotFound("the server does not exist in nova: it was deleted")
        return server

    def _start_action(self, name: str, body: Any) -> None:
        self._check_lease()
        self._nova.start_action(self._uuid, name, body, self._remaining())

    def _check_lease(self) -> None:
        """Check the lease immediately before a request.

        :raises LeaseLost: another engine may be acting on the server.
        """
        if not self._request.lease.is_held():
            raise LeaseLost("the lease of the recovery was lost: nothing else was requested")

    def _remaining(self) -> float:
        """Return the remaining time, in seconds.

        :raises vmmonitor.model.errors.Retriable: the time is over, so that no request is sent.
        """
        remaining = self._deadline - self._clock()
        if remaining <= 0:
            raise Retriable("the timeout of the attempt has expired")
        return remaining


#: Method -> function that carries it out.
FUNCTION_OF_METHOD: Mapping[NovaMethod, Callable[[NovaAttempt, Mapping[str, Any]], Outcome]] = {
    NovaMethod.HARD_REBOOT: NovaAttempt.hard_reboot,
    NovaMethod.STOP_START: NovaAttempt.stop_start,
    NovaMethod.RESUME: NovaAttempt.resume,
    NovaMethod.EVACUATE: NovaAttempt.evacuate,
}


def choose_method(request: RecoveryRequest) -> NovaMethod:
    """Return the method of the step's options; with AUTO, the one for the newest failure."""
    method = NovaMethod(request.options.get("method", NovaMethod.AUTO))
    if method != NovaMethod.AUTO:
        return method
    return METHOD_OF_FAILURE.get(newest_failure(request.events), NovaMethod.HARD_REBOOT)


def _requested(what: str, server: Mapping[str, Any]) -> Outcome:
    message = f"nova accepted the request for {what}; the server was {server[VM_STATE]}"
    return Outcome(move=RecoveryTransition.WAIT, message=message)


def _fail_for_now(message: str) -> Outcome:
    return fail(message, retry=True)


def _request_failed(error: Retriable) -> str:
    return f"the request to nova failed: {error}"


def _rejection(error: NovaRejection) -> Outcome:
    """Return the outcome of a rejection; another attempt can succeed after a conflict."""
    if error.status == 403:
        return fail(
            "the user of [nova] needs the role admin, or a policy of nova that allows actions on "
            f"all servers: {error}"
        )
    return fail(str(error), retry=error.status in RETRIABLE_STATUSES)
