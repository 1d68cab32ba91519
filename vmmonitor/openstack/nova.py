# SPDX-License-Identifier: Apache-2.0
"""Asks nova's API, and has it act: one server, its actions, all that changed, hosts."""

import datetime
import threading
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

from oslo_config import cfg

from vmmonitor.model.errors import NotFound, Retriable, VmmonitorError
from vmmonitor.openstack.service import Answer, Service

GROUP = "nova"
#: Tells of locked servers (2.9), embeds the flavor (2.47), names services by UUID (2.53), and
#: names servers of a cell that is down instead of leaving them out (2.69, Stein). It is older
#: than 2.95, from which on what is evacuated is left stopped.
MICROVERSION = "2.69"
#: Pages of one listing, after which something is wrong with it.
MOST_PAGES = 10_000
#: Characters of nova's own words that are passed on.
WORDS = 300

# -- of a server -------------------------------------------------------------------------------
HOST = "OS-EXT-SRV-ATTR:host"
TASK = "OS-EXT-STS:task_state"
STATE = "OS-EXT-STS:vm_state"
POWER = "OS-EXT-STS:power_state"
#: What ``POWER`` is of one that runs.
RUNNING = 1

#: vm_state of one that is not to run -> what that means, for a person.
AT_REST = {
    "stopped": "it is stopped in nova",
    "paused": "it is paused in nova",
    "suspended": "it is suspended in nova",
    "rescued": "it is rescued in nova",
    "shelved": "it is shelved in nova",
    "shelved_offloaded": "it is shelved in nova, and on no host",
    "resized": "its resize waits for a confirmation in nova",
    "building": "nova is still building it",
    "error": "nova itself holds it in error, which is for a person to judge",
    "soft-delete": "it is deleted in nova, for now",
    "deleted": "it is deleted in nova",
}
#: How ``disabled_reason`` of a nova-compute begins that was disabled by us, and is none of
#: somebody's maintenance.
OURS = "vmmonitor:"


class Refused(VmmonitorError):
    """nova refuses it"""

    def __init__(self, answer: Answer):
        """Keep HTTP's status and nova's own words."""
        self.status = answer.status
        word = next((one for one in answer.body.values() if isinstance(one, Mapping)), {})
        self.words = " ".join(str(word.get("message") or "").split())[:WORDS]
        said = f": {self.words}" if self.words else ""
        super().__init__(f"nova answers {answer.status}{said}")


class NovaAPI:
    """One session with keystone and nova, for any thread.

    Where a method takes a ``timeout``, it is in seconds, and bounds what ``[nova] timeout``
    allows. Each raises ``vmmonitor.model.errors.Retriable`` if nova does not answer, and
    ``Refused`` if it answers that it will not do it.
    """

    def __init__(self, conf: cfg.ConfigOpts):
        """Register the options; connect to nothing yet."""
        self._service = Service(conf, GROUP, "compute")

    def user_id(self) -> str:
        """Return who we are to nova; empty where nobody logs in (``auth_type`` none)."""
        return self._service.user_id()

    # -- one server ----------------------------------------------------------------------------
    def server(self, uuid: str, timeout: float | None = None) -> Mapping[str, Any] | None:
        """Return a server as nova shows it; None if nova knows none, or no more."""
        answer = self._get(f"/servers/{uuid}", missing=True, timeout=timeout)
        return None if answer is None else _part(answer, "server", dict)

    def actions(self, uuid: str, timeout: float | None = None) -> list[Mapping[str, Any]]:
        """Return what was done to a server, the newest first."""
        answer = self._get(f"/servers/{uuid}/os-instance-actions", timeout=timeout)
        return _mappings(answer or {}, "instanceActions")

    def steps(self, uuid: str, request_id: str) -> list[Mapping[str, Any]]:
        """Return the parts of one action of a server that have begun so far, each with
        ``finish_time`` and ``result`` once it is over."""
        answer = self._get(f"/servers/{uuid}/os-instance-actions/{request_id}")
        return _mappings(_part(answer or {}, "instanceAction", dict), "events")

    def act(self, uuid: str, name: str, body: Any, timeout: float | None = None) -> None:
        """Have nova do something to a server; it has begun when this returns.

        :param name: of the action (``os-start``); ``body`` is what it takes, often None.
        :raises vmmonitor.model.errors.NotFound: nova knows no such server, or no more.
        """
        path = f"/servers/{uuid}/action"
        answer = self._ask("POST", path, body={name: body}, timeout=timeout)
        if answer.status == 404 and _is_map(answer.body, "itemNotFound"):
            raise NotFound("nova does not know it: it was deleted")
        _agreed(answer, path)

    # -- all servers ---------------------------------------------------------------------------
    def servers(self, since: int | None, page_size: int) -> Iterator[Mapping[str, Any]]:
        """Yield every server, or those that changed, also the deleted ones, since then.

        :param since: microseconds since the epoch; nova counts whole seconds.
        :raises vmmonitor.model.errors.Retriable: nova does not answer, or not to the end.
        """
        query = {"all_tenants": "1", "limit": str(page_size)}
        if since is not None:
            moment = datetime.datetime.fromtimestamp(since // 1_000_000, datetime.UTC)
            query["changes-since"] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        for _ in range(MOST_PAGES):
            answer = self._get("/servers/detail", query) or {}
            page = _mappings(answer, "servers")
            yield from page
            last = str(page[-1].get("id", "")) if page else ""
            if not answer.get("servers_links") or last in ("", query.get("marker")):
                return
            query["marker"] = last
        raise Retriable("nova's list of servers does not end")

    # -- hosts ---------------------------------------------------------------------------------
    def compute(self, host: str, timeout: float | None = None) -> Mapping[str, Any] | None:
        """Return the nova-compute of a host: ``id``, ``state`` (up, down), ``status`` (enabled,
        disabled), ``disabled_reason``, ``forced_down``; None if nova knows none."""
        query = {"binary": "nova-compute", "host": host}
        answer = self._get("/os-services", query, timeout=timeout)
        told = _mappings(answer or {}, "services")
        return next((one for one in told if one.get("host") == host), None)

    def disable(self, service_id: str, reason: str, timeout: float | None = None) -> None:
        """Have nova place nothing more on the host of a nova-compute.

        :param reason: for people; OURS is put before it.
        """
        body = {"status": "disabled", "disabled_reason": f"{OURS} {reason}"[:255]}
        path = f"/os-services/{service_id}"
        _agreed(self._ask("PUT", path, body=body, timeout=timeout), path)

    def aggregates(self) -> list[Mapping[str, Any]]:
        """Return all host aggregates: ``hosts``, ``metadata``, ``name``."""
        return _mappings(self._get("/os-aggregates") or {}, "aggregates")

    # -- asking --------------------------------------------------------------------------------
    def _get(
        self,
        path: str,
        query: Mapping[str, str] | None = None,
        missing: bool = False,
        timeout: float | None = None,
    ) -> Mapping[str, Any] | None:
        """Return nova's answer; None if there is no such thing, where that may be."""
        answer = self._ask("GET", path, query=query, timeout=timeout)
        # A proxy in front of nova has a 404 too, but not these words.
        if missing and answer.status == 404 and _is_map(answer.body, "itemNotFound"):
            return None
        if answer.status != 200 or not answer.body:
            raise Retriable(f"it answers {answer.status} to {path}")
        return answer.body

    def _ask(self, method: str, path: str, **given: Any) -> Answer:
        return self._service.ask(method, path, microversion=MICROVERSION, **given)


_guard = threading.Lock()
#: Alive as long as anybody uses it; it keeps its configuration, so that no other has its id.
_connections: weakref.WeakValueDictionary[int, NovaAPI] = weakref.WeakValueDictionary()


def connection(conf: cfg.ConfigOpts) -> NovaAPI:
    """Return the process's one session with nova, for all who ask by this configuration."""
    with _guard:
        known = _connections.get(id(conf))
        if known is None:
            known = _connections[id(conf)] = NovaAPI(conf)
        return known


def microseconds(text: Any) -> int:
    """Return a time of nova's, which is UTC also where it does not say so, as microseconds since
    the epoch; 0 if it is none."""
    try:
        moment = datetime.datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        return int(moment.timestamp()) * 1_000_000
    except (TypeError, ValueError, OverflowError):
        return 0


def _agreed(answer: Answer, path: str) -> None:
    """Return if nova has done what it was told to."""
    if answer.is_good:
        return
    # What is in front of nova answers with an error too, but with no words of nova's.
    if 400 <= answer.status < 500 and any(_is_map(answer.body, name) for name in answer.body):
        raise Refused(answer)
    raise Retriable(f"it answers {answer.status} to {path}")


def _part(answer: Mapping[str, Any], name: str, kind: type) -> Any:
    part = answer.get(name)
    if not isinstance(part, kind):
        raise Retriable(f"its answer has no {name!r}")
    return part


def _mappings(answer: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    return [one for one in _part(answer, name, list) if isinstance(one, Mapping)]


def _is_map(answer: Any, name: str) -> bool:
    return isinstance(answer, Mapping) and isinstance(answer.get(name), Mapping)
