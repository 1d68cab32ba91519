# SPDX-License-Identifier: Apache-2.0
"""Client of nova: servers and their actions, compute services and aggregates."""

import datetime
import threading
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

from oslo_config import cfg

from vmmonitor import text
from vmmonitor.model.errors import NotFound, Retriable, VmmonitorError
from vmmonitor.openstack.service import Service, ServiceResponse, unexpected_status

#: Contains locked servers (2.9), the embedded flavor (2.47), services identified by UUID (2.53),
#: and the servers of a cell that is down (2.69, Stein). From 2.95 on, an evacuated server is left
#: stopped.
MICROVERSION = "2.69"
#: Tolerance for the clock of nova, whose database stores whole seconds, in microseconds.
NOVA_CLOCK_TOLERANCE = 5_000_000
#: Maximum number of pages of the list of servers.
MAX_SERVER_PAGES = 10_000
#: Maximum length of a message of nova that is passed on.
MAX_MESSAGE = 300

# -- fields of a server ------------------------------------------------------------------------
SERVER_HOST = "OS-EXT-SRV-ATTR:host"
TASK_STATE = "OS-EXT-STS:task_state"
VM_STATE = "OS-EXT-STS:vm_state"
POWER_STATE = "OS-EXT-STS:power_state"
#: Value of POWER_STATE for a running server.
POWER_RUNNING = 1

#: vm_state -> reason, for operators.
STATE_REASONS = {
    "active": "the server should run here according to nova: active, no operation in progress",
    "stopped": "the server is stopped in nova",
    "paused": "the server is paused in nova",
    "suspended": "the server is suspended in nova",
    "rescued": "the server is rescued in nova",
    "shelved": "the server is shelved in nova",
    "shelved_offloaded": "the server is shelved in nova and has no host",
    "resized": "the resize of the server waits for confirmation in nova",
    "building": "nova is building the server",
    "error": "the server is in the error state in nova; an operator must decide",
    "soft-delete": "the server is soft-deleted in nova",
    "deleted": "the server is deleted in nova",
}
#: Prefix of ``disabled_reason`` of a compute service that vmmonitor disabled. Such a host is not
#: in maintenance.
DISABLED_REASON_PREFIX = "vmmonitor:"


class NovaRejection(VmmonitorError):
    """nova rejected a request"""

    def __init__(self, response: ServiceResponse):
        """Read the status and nova's message from the response."""
        self.status = response.status
        error = next((part for part in response.body.values() if isinstance(part, Mapping)), {})
        self.message = " ".join(str(error.get("message") or "").split())[:MAX_MESSAGE]
        suffix = f": {self.message}" if self.message else ""
        super().__init__(f"nova rejected the request with HTTP status {self.status}{suffix}")


class NovaAPI(Service):
    """A client of nova.

    Methods that change something raise NovaRejection if nova refuses the request.
    """

    GROUP = "nova"
    SERVICE_TYPE = "compute"

    # -- one server ----------------------------------------------------------------------------
    def get_server(self, uuid: str, timeout: float | None = None) -> Mapping[str, Any] | None:
        """Return a server, or None if it does not exist."""
        body = self._get_or_none(text.url_path("servers", uuid), timeout=timeout)
        return None if body is None else _part(body, "server", dict)

    def list_actions(self, uuid: str, timeout: float | None = None) -> list[Mapping[str, Any]]:
        """Return the actions on a server, newest first."""
        body = self._get(text.url_path("servers", uuid, "os-instance-actions"), timeout=timeout)
        return _mappings(body, "instanceActions")

    def list_action_events(self, uuid: str, request_id: str) -> list[Mapping[str, Any]]:
        """Return the events of an action that have started.

        Finished events have ``finish_time`` and ``result``.
        """
        body = self._get(text.url_path("servers", uuid, "os-instance-actions", request_id))
        return _mappings(_part(body, "instanceAction", dict), "events")

    def start_action(self, uuid: str, name: str, body: Any, timeout: float | None = None) -> None:
        """Start an action on a server. nova carries it out after the response.

        :param name: name of the action (``os-start``).
        :param body: arguments of the action, often None.
        :raises vmmonitor.model.errors.NotFound: the server does not exist.
        """
        path = text.url_path("servers", uuid, "action")
        response = self._send("POST", path, body={name: body}, timeout=timeout)
        if response.is_not_found:
            raise NotFound("the server does not exist in nova: it was deleted")
        _check_accepted(response, path)

    # -- all servers ---------------------------------------------------------------------------
    def list_servers(self, since: int | None, page_size: int) -> Iterator[Mapping[str, Any]]:
        """Yield all servers, or the changed and deleted servers since a time.

        :param since: microseconds since the epoch; nova uses whole seconds.
        """
        query = {"all_tenants": "1", "limit": str(page_size)}
        if since is not None:
            moment = datetime.datetime.fromtimestamp(since // 1_000_000, datetime.UTC)
            query["changes-since"] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        for _ in range(MAX_SERVER_PAGES):
            body = self._get("/servers/detail", query)
            page = _mappings(body, "servers")
            yield from page
            last = str(page[-1].get("id", "")) if page else ""
            if not body.get("servers_links") or last in ("", query.get("marker")):
                return
            query["marker"] = last
        raise Retriable(f"the list of servers has more than {MAX_SERVER_PAGES} pages")

    # -- hosts ---------------------------------------------------------------------------------
    def get_compute_service(
        self, host: str, timeout: float | None = None
    ) -> Mapping[str, Any] | None:
        """Return the nova-compute service of a host, or None if there is none.

        Fields: ``id``, ``state`` (up, down), ``status`` (enabled, disabled), ``disabled_reason``,
        ``forced_down``.
        """
        query = {"binary": "nova-compute", "host": host}
        services = _mappings(self._get("/os-services", query, timeout=timeout), "services")
        return next((service for service in services if service.get("host") == host), None)

    def disable_compute_service(
        self, service_id: str, reason: str, timeout: float | None = None
    ) -> None:
        """Disable a nova-compute service, so that nova schedules nothing to its host.

        :param reason: text for operators; DISABLED_REASON_PREFIX is prepended.
        """
        full_reason = f"{DISABLED_REASON_PREFIX} {reason}"[:255]
        path = text.url_path("os-services", service_id)
        body = {"status": "disabled", "disabled_reason": full_reason}
        _check_accepted(self._send("PUT", path, body=body, timeout=timeout), path)

    def list_aggregates(self) -> list[Mapping[str, Any]]:
        """Return all host aggregates: ``hosts``, ``metadata``, ``name``."""
        return _mappings(self._get("/os-aggregates"), "aggregates")

    # -- requests ------------------------------------------------------------------------------
    def _get_or_none(
        self, path: str, query: Mapping[str, str] | None = None, timeout: float | None = None
    ) -> Mapping[str, Any] | None:
        response = self._send("GET", path, query=query, timeout=timeout)
        return None if response.is_not_found else _content(response, path)

    def _get(
        self, path: str, query: Mapping[str, str] | None = None, timeout: float | None = None
    ) -> Mapping[str, Any]:
        return _content(self._send("GET", path, query=query, timeout=timeout), path)

    def _send(self, method: str, path: str, **arguments: Any) -> ServiceResponse:
        return self.request(method, path, microversion=MICROVERSION, **arguments)


_guard = threading.Lock()
#: id of a configuration -> its client, which keeps the configuration alive, so that no other
#: configuration gets the same id.
_shared: weakref.WeakValueDictionary[int, NovaAPI] = weakref.WeakValueDictionary()


def shared_api(conf: cfg.ConfigOpts) -> NovaAPI:
    """Return the client that all users of one configuration share."""
    with _guard:
        known = _shared.get(id(conf))
        if known is None:
            known = _shared[id(conf)] = NovaAPI(conf)
        return known


def to_microseconds(moment_text: Any) -> int:
    """Return a time of nova in microseconds since the epoch, or 0 for an invalid time.

    Times without a time zone are UTC.
    """
    try:
        moment = datetime.datetime.fromisoformat(moment_text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        return int(moment.timestamp()) * 1_000_000
    except (TypeError, ValueError, OverflowError):
        return 0


def _content(response: ServiceResponse, path: str) -> Mapping[str, Any]:
    if response.status != 200 or not response.body:
        raise unexpected_status(response, path)
    return response.body


def _check_accepted(response: ServiceResponse, path: str) -> None:
    """Raise an error unless nova has accepted a request."""
    if response.is_success:
        return
    # The error of a proxy in front of nova has no error object of nova.
    is_from_nova = any(isinstance(part, Mapping) for part in response.body.values())
    if 400 <= response.status < 500 and is_from_nova:
        raise NovaRejection(response)
    raise unexpected_status(response, path)


def _part(body: Mapping[str, Any], name: str, kind: type) -> Any:
    part = body.get(name)
    if not isinstance(part, kind):
        raise Retriable(f"the response has no {name!r}")
    return part


def _mappings(body: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    return [found for found in _part(body, name, list) if isinstance(found, Mapping)]
