# SPDX-License-Identifier: Apache-2.0
"""What nova says that instances should be doing, and where."""

import datetime
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from oslo_config import cfg
from oslo_utils import strutils

from vmmonitor.expectation import Expectation, operations
from vmmonitor.expectation.libvirt import STATES, LibvirtExpectation
from vmmonitor.model import expected as should
from vmmonitor.model import instance as states
from vmmonitor.model.errors import Retriable
from vmmonitor.model.event import RUNNING_AGAIN, WITHOUT_A_CAUSE, Event
from vmmonitor.model.expected import Expected, Sight, Survey
from vmmonitor.model.incident import FAILED, GONE, PLANNED, UNKNOWN, Incident, Verdict
from vmmonitor.model.instance import Instance
from vmmonitor.openstack.nova import NovaAPI

HOST = "OS-EXT-SRV-ATTR:host"
TASK = "OS-EXT-STS:task_state"
STATE = "OS-EXT-STS:vm_state"
#: Seconds by which surveys overlap: the clocks of nova's services differ, and so does ours.
OVERLAP = 120

#: vm_state -> (what a survey says, what the judge says where it is not to run)
MEANING = {
    "active": (should.RUNNING, ""),
    "stopped": (should.STOPPED, "it is stopped in nova"),
    "paused": (should.PAUSED, "it is paused in nova"),
    "suspended": (should.STOPPED, "it is suspended in nova"),
    "rescued": (should.BUSY, "it is rescued in nova"),
    "shelved": (should.STOPPED, "it is shelved in nova"),
    "shelved_offloaded": (should.STOPPED, "it is shelved in nova, and on no host"),
    "resized": (should.BUSY, "its resize waits for a confirmation in nova"),
    "building": (should.BUSY, "nova is still building it"),
    "error": (should.BUSY, "nova itself holds it in error, which is for a person to judge"),
    "soft-delete": (should.STOPPED, "it is deleted in nova, for now"),
    "deleted": (should.GONE, "it is deleted in nova"),
}


class NovaExpectation(Expectation):
    """Goes by nova; where nova says that an instance should run, also by what its host says."""

    def __init__(self, conf: cfg.ConfigOpts, now: Callable[[], int] | None = None):
        """Keep what is needed; connect to nothing yet.

        :param now: microseconds since the epoch.
        """
        super().__init__(conf)
        self._nova = NovaAPI(conf)
        self._host_says = LibvirtExpectation(conf)
        self._now = now or (lambda: time.time_ns() // 1000)

    # -- one -----------------------------------------------------------------------------------
    def judge(self, incident: Incident, events: Sequence[Event]) -> Verdict:
        """Ask nova about an incident's instance, unless nova has told that it works on it.

        :param events: the incident's, and nova's of the time before it, oldest first.
        """
        plan = operations.plan(incident, events)
        if plan and plan.leaves == operations.DOWN and not plan.over:
            return Verdict(word=PLANNED, reason=plan.words)
        uuid = incident.instance.uuid
        try:
            server = self._nova.server(uuid)
            if server is None:
                return Verdict(word=GONE, reason="nova does not know it: it was deleted")
            return self._excused(incident, server) or self._by_state(incident, events, server)
        except Retriable as error:
            unknown = Verdict(word=UNKNOWN, reason=f"nova cannot be asked: {error}")
            return operations.judge(incident, events, unknown)

    def _excused(self, incident: Incident, server: Mapping[str, Any]) -> Verdict | None:
        """Return why the instance is to be left alone here, whatever state it is in."""
        if not server.get(STATE):
            reason = "nova does not tell its state: its cell is down, or we are no administrator"
            return Verdict(word=UNKNOWN, reason=reason)
        if server.get(HOST) and server[HOST] != incident.host:
            reason = f"nova has it on host {server[HOST]}, not on {incident.host}"
            return Verdict(word=PLANNED, reason=reason)
        if task := server.get(TASK):
            return Verdict(word=PLANNED, reason=f"nova is at work on it: {task}")
        if server.get("locked") and not self.conf.nova.recover_locked:
            return Verdict(word=PLANNED, reason="it is locked in nova")
        return self._opted_out(server)

    def _opted_out(self, server: Mapping[str, Any]) -> Verdict | None:
        key, default = self.conf.nova.metadata_key, self.conf.nova.recover_by_default
        metadata = server.get("metadata")
        word = metadata.get(key) if key and isinstance(metadata, Mapping) else None
        if strutils.bool_from_string(word, default=default):
            return None
        said = f"its metadata says {key} = {word}" if word else "nobody asked for it"
        return Verdict(word=PLANNED, reason=f"it is not to be recovered: {said}")

    def _by_state(
        self, incident: Incident, events: Sequence[Event], server: Mapping[str, Any]
    ) -> Verdict:
        state = str(server[STATE])
        if state == "active":
            if not server.get(HOST):
                return Verdict(word=UNKNOWN, reason="nova does not tell on which host it is")
            return self._should_run(incident, events)
        if state == "stopped" and self._stopped_by_nova(incident):
            return self._found_dead(incident, events)
        _, meaning = MEANING.get(state, ("", f"its state in nova is {state}"))
        return Verdict(word=GONE if state == "deleted" else PLANNED, reason=meaning)

    def _should_run(self, incident: Incident, events: Sequence[Event]) -> Verdict:
        """Return what it means, by its host's word, that an instance does not run that should."""
        said = self._host_says.by_cause(incident, events)
        if said.word == PLANNED or said.word == UNKNOWN and not _stopped(incident, events):
            return said
        reason = f"nova says that it should run here; {said.reason}"
        return Verdict(word=FAILED, reason=reason)

    def _stopped_by_nova(self, incident: Incident) -> bool:
        """Tell whether nova stopped it of its own accord: it does so when it finds one dead."""
        newest = next(iter(self._nova.actions(incident.instance.uuid)), {})
        return newest.get("action") == "stop" and not newest.get("user_id")

    def _found_dead(self, incident: Incident, events: Sequence[Event]) -> Verdict:
        said = self._host_says.by_cause(incident, events)
        if said.word == PLANNED:
            return said
        word = said.word if said.word == UNKNOWN else FAILED
        return Verdict(
            word=word,
            reason=f"nobody asked nova to stop it, nova found it not running; {said.reason}",
        )

    # -- all -----------------------------------------------------------------------------------
    def survey(self, since: int | None, sights: Sequence[Sight]) -> Survey:
        """Ask nova for all instances, or for those that changed.

        :param since: microseconds since the epoch.
        :param sights: not needed.
        :raises vmmonitor.model.errors.Retriable: nova does not answer.
        """
        until = self._now()
        after = since - OVERLAP * 1_000_000 if since is not None else None
        servers = self._nova.servers(after, self.conf.nova.page_size)
        told = [_expected(server) for server in servers]
        return Survey(expected=tuple(one for one in told if one), whole=since is None, until=until)


def _stopped(incident: Incident, events: Sequence[Event]) -> bool:
    """Tell whether it is stopped by its host's newest word, or its host has no word on it."""
    words = [event.type for event in events if event.host == incident.host and _on_state(event)]
    return not words or states.STATE_AFTER.get(words[-1], states.SHUTOFF) == states.SHUTOFF


def _on_state(event: Event) -> bool:
    told = event.type in STATES or event.type in RUNNING_AGAIN or event.type in WITHOUT_A_CAUSE
    return told and not event.attributes.get("replaced")


def _expected(server: Mapping[str, Any]) -> Expected | None:
    """Return what one server of a listing should be doing; None if that is not told."""
    uuid, state = server.get("id"), server.get(STATE)
    if not isinstance(uuid, str) or not isinstance(state, str):
        return None
    doing, _ = MEANING.get(state, (should.BUSY, ""))
    if server.get("status") == "DELETED":
        doing = should.GONE
    elif server.get(TASK) or (doing == should.RUNNING and not server.get(HOST)):
        doing = should.BUSY
    return Expected(
        instance=_instance(uuid, server),
        host=str(server.get(HOST) or ""),
        state=doing,
        updated_at=_microseconds(server.get("updated")),
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


def _microseconds(text: Any) -> int:
    """Return a time of nova's as microseconds since the epoch; 0 if it is none."""
    try:
        moment = datetime.datetime.fromisoformat(text)
        return int(moment.timestamp()) * 1_000_000
    except (TypeError, ValueError, OverflowError):
        return 0
