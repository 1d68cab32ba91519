# SPDX-License-Identifier: Apache-2.0
"""Has nova bring an instance back: reboot it, stop and start it, or evacuate it.

Nova takes an order, answers at once, and carries it out afterwards. So an order whose answer got
lost may have been taken: whoever comes next looks among the server's actions before it gives
another one.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

from oslo_config import cfg

from vmmonitor.drivers import AskAgent, Driver
from vmmonitor.drivers.libvirt import LibvirtDriver, newest_failure
from vmmonitor.model.errors import InvalidRules, NotFound, Retriable
from vmmonitor.model.recovery import Outcome, RecoveryRequest
from vmmonitor.openstack import nova
from vmmonitor.openstack.nova import AT_REST, HOST, STATE, TASK, NovaAPI, Refused

AUTO = "auto"
HARD_REBOOT = "hard_reboot"
STOP_START = "stop_start"
RESUME = "resume"
EVACUATE = "evacuate"

#: Values of ``options: {method: ...}``.
METHODS = (AUTO, HARD_REBOOT, STOP_START, RESUME, EVACUATE)
#: What AUTO does about the newest failure; HARD_REBOOT about any that is not here.
#:
#: These left the guest's memory as it was. What nova calls resume is for instances that nova
#: suspended; to nova one that QEMU paused is active, and it leaves it paused. Whatever nova can
#: be told that would make it run again resets it. So it is the agent that resumes it.
BY_FAILURE = {
    "io_error/pause": RESUME,
    "lifecycle.suspended/ioerror": RESUME,
    "liveness.paused/ioerror": RESUME,
}
#: Method -> action of nova's that ends with a running server.
ORDERS = {HARD_REBOOT: "reboot", STOP_START: "start", EVACUATE: "evacuate"}
#: Conflict: nova is at work on it. The rest is about us and the moment, not about the server.
PASSING = frozenset({401, 408, 409, 413, 425, 429})
#: Seconds between two looks at a server that is being stopped.
LOOK_INTERVAL = 0.5
#: Microseconds by which nova's clock may be behind ours; its database keeps whole seconds.
SKEW = 5_000_000


class NovaDriver(Driver):
    """Gives nova an order, at most one of its kind for each recovery."""

    def __init__(self, conf: cfg.ConfigOpts, ask_agent: AskAgent):
        """Keep what is needed; connect to nothing yet."""
        super().__init__(conf, ask_agent)
        self._nova = nova.connection(conf)
        self._agent = LibvirtDriver(conf, ask_agent)

    @classmethod
    def check_options(cls, options: Mapping[str, Any]) -> None:
        """Accept ``method``, one of METHODS, and ``disable_compute``, a boolean."""
        for name, value in options.items():
            if name == "method" and value not in METHODS:
                known = ", ".join(METHODS)
                raise InvalidRules(f"{str(value)[:40]!r} is not one of {known}", option=name)
            if name == "disable_compute" and not isinstance(value, bool):
                raise InvalidRules("must be true or false", option=name)
            if name not in ("method", "disable_compute"):
                raise InvalidRules("must be method or disable_compute", option=name)

    def check(self) -> str:
        """Ask what is asked of servers and of hosts, with which the rights to act come along."""
        try:
            self._nova.user_id()
            servers = self._nova.servers(None, 1)
            if nova.HOST not in next(iter(servers), {nova.HOST: ""}):
                return "nova does not tell on which host a server is: we are no administrator"
            self._nova.compute("")
        except Retriable as error:
            return f"nova cannot be asked: {error}"
        return ""

    def recover(self, request: RecoveryRequest) -> Outcome:
        """Look at the server, then give nova one order; or leave it alone and say why."""
        try:
            return Attempt(self._nova, request, self._agent.recover).make()
        except NotFound as error:
            return Outcome(move="skip", message=str(error))
        except Refused as error:
            return _refusal(error)
        except Retriable as error:
            message = f"nova cannot be asked, or gave no answer: {error}"
            return Outcome(move="fail", message=message, retry=True)


class Attempt:
    """One attempt to have nova bring one server back."""

    def __init__(
        self,
        api: NovaAPI,
        request: RecoveryRequest,
        resume: Callable[[RecoveryRequest], Outcome],
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ):
        """Start the time that the request allows.

        :param resume: has the agent resume an instance.
        :param clock: seconds.
        """
        self._nova = api
        self._request = request
        self._uuid = request.recovery.instance_uuid
        self._host = request.incident.host
        self._method = chosen_method(request)
        self._resume = resume
        self._clock = clock
        self._pause = pause
        self._deadline = clock() + request.timeout

    def make(self) -> Outcome:
        """Do it.

        :raises vmmonitor.model.errors.VmmonitorError: what nova's API raises.
        """
        server = self._server()
        if not server.get(STATE):
            return _again("nova does not tell its state: its cell is down")
        if outcome := self._ordered_before(server):
            return outcome
        if task := server.get(TASK):
            return _again(f"nova is at work on it: {task}")
        if reason := self._not_ours(server):
            return Outcome(move="skip", message=reason)
        if not server.get(HOST):
            return _again("nova does not tell on which host it is")
        if outcome := self._see_to_host(server):
            return outcome
        return CALLS[self._method](self, server)

    # -- what there is to know -----------------------------------------------------------------
    def _ordered_before(self, server: Mapping[str, Any]) -> Outcome | None:
        """Return what there is to say if nova has an order of ours already.

        That is asked where one may have been given whose answer nobody heard: by an engine that
        died, or by the attempt before, which ended when this recovery was created. What is being
        evacuated for this incident, or was, is never evacuated again.
        """
        recovery = self._request.recovery
        since = recovery.created_at - SKEW
        if self._method == EVACUATE:
            since = min(since, self._request.incident.opened_at)
        elif recovery.attempt > 1:
            since -= round(self._request.timeout * 1_000_000)
        elif not self._request.taken_over:
            return None
        newest = self._newest_action()
        began = nova.microseconds(newest.get("start_time"))
        if newest.get("action") != ORDERS.get(self._method) or began < since:
            return None
        if newest.get("message") or not self._is_ours(newest):
            return None
        if task := server.get(TASK):
            return Outcome(move="wait", message=f"nova is at it already: {task}")
        if self._failed_since(nova.microseconds(newest.get("updated_at"))):
            return None
        return Outcome(move="wait", message=f"nova has done it already: {newest['action']}")

    def _failed_since(self, at: int) -> bool:
        later = [one for one in self._request.events if one.occurred_at > at + SKEW]
        return bool(newest_failure(later))

    def _not_ours(self, server: Mapping[str, Any]) -> str:
        """Return why the server is to be left alone; empty if it is not."""
        host, state = server.get(HOST), str(server[STATE])
        if host and host != self._host:
            return f"nova has it on host {host} now, not on {self._host}"
        if state == "active":
            return ""
        newest = self._newest_action()
        by_us = not newest.get("user_id") or self._is_ours(newest)
        # Nova stops what it finds dead, and calls an error what it could not reboot.
        if by_us and (state == "error" or (state, newest.get("action")) == ("stopped", "stop")):
            return ""
        return AT_REST.get(state, f"its state in nova is {state}")

    def _see_to_host(self, server: Mapping[str, Any]) -> Outcome | None:
        """Return why nothing can be done through its host; disable that first if asked to."""
        disables = self._request.options.get("disable_compute", False)
        needs_host = self._method in (HARD_REBOOT, STOP_START)
        if self._method != EVACUATE and not disables and server.get("host_status") == "UP":
            return None
        service = self._nova.compute(self._host, self._left()) or {}
        down = service.get("state") == "down" or service.get("forced_down") is True
        if needs_host and down:
            return _again(
                f"nova-compute on {self._host} is down, and nothing that nova is told reaches the "
                "instance: a step with method evacuate would bring it up elsewhere"
            )
        if self._method == EVACUATE and not down:
            message = f"nova-compute on {self._host} is not down, and nova evacuates only then"
            return _again(message)
        if disables and service.get("status") == "enabled":
            incident = self._request.incident
            reason = f"{incident.cause}, incident {incident.incident_id}"
            self._nova.disable(str(service.get("id")), reason, self._left())
        return None

    def _newest_action(self) -> Mapping[str, Any]:
        return next(iter(self._nova.actions(self._uuid, self._left())), {})

    def _is_ours(self, action: Mapping[str, Any]) -> bool:
        return bool(action.get("user_id")) and action["user_id"] == self._nova.user_id()

    # -- what can be done ----------------------------------------------------------------------
    def hard_reboot(self, server: Mapping[str, Any]) -> Outcome:
        """Works also on what nova has stopped, or holds in error."""
        self._order("reboot", {"type": "HARD"})
        return _ordered("a hard reboot", server)

    def stop_start(self, server: Mapping[str, Any]) -> Outcome:
        """What is in error is called active first, so that nova will stop it."""
        if server[STATE] == "error":
            self._order("os-resetState", {"state": "active"})
        if server[STATE] != "stopped":
            self._order("os-stop", None)
            if not self._is_stopped():
                return _again("nova has been told to stop it, and has not come to an end")
        self._order("os-start", None)
        return _ordered("a start", server)

    def evacuate(self, server: Mapping[str, Any]) -> Outcome:
        """What nova has stopped is called active first, so that it runs where it comes up."""
        if server[STATE] == "stopped":
            self._order("os-resetState", {"state": "active"})
        self._order("evacuate", {})
        return _ordered("an evacuation", server)

    def resume(self, server: Mapping[str, Any]) -> Outcome:
        """Ask the agent, which knows the recovery by its id."""
        return self._resume(dataclasses.replace(self._request, timeout=self._left()))

    def _is_stopped(self) -> bool:
        """Wait for it, as long as there is time."""
        while self._left() > LOOK_INTERVAL:
            server = self._server()
            if not server.get(TASK):
                return server.get(STATE) == "stopped"
            self._pause(LOOK_INTERVAL)
        return False

    # -- asking --------------------------------------------------------------------------------
    def _server(self) -> Mapping[str, Any]:
        server = self._nova.server(self._uuid, self._left())
        if server is None:
            raise NotFound("nova does not know it: it was deleted")
        return server

    def _order(self, name: str, body: Any) -> None:
        self._nova.act(self._uuid, name, body, self._left())

    def _left(self) -> float:
        """Return the seconds that are left.

        :raises vmmonitor.model.errors.Retriable: there are none: nothing is begun any more.
        """
        left = self._deadline - self._clock()
        if left <= 0:
            raise Retriable("its time is over")
        return left


#: Method -> function that carries it out.
CALLS: Mapping[str, Callable[[Attempt, Mapping[str, Any]], Outcome]] = {
    HARD_REBOOT: Attempt.hard_reboot,
    STOP_START: Attempt.stop_start,
    RESUME: Attempt.resume,
    EVACUATE: Attempt.evacuate,
}


def chosen_method(request: RecoveryRequest) -> str:
    """Return the method by the step's options and, with AUTO, the newest failure."""
    method = str(request.options.get("method", AUTO))
    if method != AUTO:
        return method
    return BY_FAILURE.get(newest_failure(request.events), HARD_REBOOT)


def _ordered(what: str, server: Mapping[str, Any]) -> Outcome:
    message = f"nova has taken the order for {what}; it called it {server[STATE]}"
    return Outcome(move="wait", message=message)


def _again(message: str) -> Outcome:
    return Outcome(move="fail", message=message, retry=True)


def _refusal(error: Refused) -> Outcome:
    """Return what a refusal means: nova's conflicts pass, most else does not."""
    if error.status == 403:
        message = (
            "nova does not allow it: the user of [nova] needs the role admin, or a policy of "
            f"nova's that lets it act on all servers; {error}"
        )
        return Outcome(move="fail", message=message)
    return Outcome(move="fail", message=str(error), retry=error.status in PASSING)
