# SPDX-License-Identifier: Apache-2.0
"""Send requests to one OpenStack service, with an account in keystone."""

import dataclasses
import threading
from collections.abc import Mapping
from typing import Any, ClassVar

from keystoneauth1 import adapter, loading
from keystoneauth1 import exceptions as errors
from oslo_config import cfg

from vmmonitor.model.errors import Retriable

#: Default timeout of a request, in seconds.
DEFAULT_TIMEOUT = 10
#: Option groups with keystoneauth's options for a service.
SERVICE_GROUPS = ("nova", "glance", "masakari", "mistral")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ServiceResponse:
    """The response of a service.

    :param status: status code of HTTP.
    :param body: the JSON object of the response; empty if there is none.
    """

    status: int
    body: Mapping[str, Any]

    @property
    def is_success(self) -> bool:
        """Return whether the status is 2xx."""
        return 200 <= self.status < 300

    @property
    def is_not_found(self) -> bool:
        """Return whether the service itself reports that the object does not exist.

        The 404 of a proxy in front of the service has another body.
        """
        return self.status == 404 and (
            isinstance(self.body.get("itemNotFound"), Mapping) or "faultstring" in self.body
        )


class Service:
    """A client of one service, with a session for all threads.

    Methods raise ``vmmonitor.model.errors.Retriable`` if the service does not respond, or responds
    with something else than requested. A ``timeout`` is in seconds.

    :cvar GROUP: option group: credentials (which ``AUTH_SECTION`` may take from another group),
        certificates, timeout and endpoint.
    :cvar SERVICE_TYPE: type of the service in keystone's catalog.
    :cvar AUTH_SECTION: default group of the credentials; '' for the same group.
    """

    GROUP: ClassVar[str]
    SERVICE_TYPE: ClassVar[str]
    AUTH_SECTION: ClassVar[str] = ""

    def __init__(self, conf: cfg.ConfigOpts):
        """Register the options; do not connect yet."""
        self._conf = conf
        self._guard = threading.Lock()
        self._adapter: adapter.Adapter | None = None
        loading.register_session_conf_options(conf, self.GROUP)
        loading.register_adapter_conf_options(conf, self.GROUP, include_deprecated=False)
        loading.register_auth_conf_options(conf, self.GROUP)
        conf.set_default("timeout", DEFAULT_TIMEOUT, group=self.GROUP)
        conf.set_default("service_type", self.SERVICE_TYPE, group=self.GROUP)
        if self.AUTH_SECTION:
            conf.set_default("auth_section", self.AUTH_SECTION, group=self.GROUP)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        microversion: str | None = None,
        timeout: float | None = None,
    ) -> ServiceResponse:
        """Send a request and return the response with any status.

        :param method: method of HTTP.
        :param body: JSON value to send; None for no body.
        :param timeout: maximum time for each part of the response, if shorter than the group's
            ``timeout``.
        :raises vmmonitor.model.errors.Retriable: there was no readable response; the request may
            have been carried out.
        """
        limit = self._conf[self.GROUP].timeout
        if timeout is not None:
            limit = min(timeout, limit or timeout)
        try:
            response = self._connect().request(
                path,
                method,
                params=dict(query or {}),
                microversion=microversion,
                raise_exc=False,
                timeout=limit,
                **({} if body is None else {"json": body}),
            )
        except (errors.ClientException, cfg.Error, OSError) as error:
            raise Retriable(_summarize(error)) from error
        try:
            content = response.json() if response.content else {}
        except (ValueError, RecursionError) as error:
            # The body of an error may be HTML.
            if response.ok:
                raise Retriable(f"the response to {path} is not JSON") from error
            content = {}
        return ServiceResponse(
            status=response.status_code, body=content if isinstance(content, Mapping) else {}
        )

    def probe(self, path: str, timeout: float) -> ServiceResponse:
        """Return the response to a request for one entry of a list, for health checks."""
        return self.request("GET", path, query={"limit": "1"}, timeout=timeout)

    def user_id(self) -> str:
        """Return the id of the service user in keystone, or '' without a login (``none``)."""
        try:
            return str(self._connect().get_user_id() or "")
        except (errors.ClientException, cfg.Error, OSError) as error:
            raise Retriable(_summarize(error)) from error

    def _get_or_none(
        self, path: str, query: Mapping[str, str] | None = None, timeout: float | None = None
    ) -> Mapping[str, Any] | None:
        """Return the body of the response to a GET request, or None if the object is missing."""
        response = self.request("GET", path, query=query, timeout=timeout)
        return None if response.is_not_found else _body(response, path)

    def _get_list(
        self, path: str, key: str, query: Mapping[str, str], timeout: float
    ) -> list[Any]:
        """Return the list under a key of the response to a GET request."""
        found = _body(self.request("GET", path, query=query, timeout=timeout), path).get(key)
        if not isinstance(found, list):
            raise Retriable(f"the response to {path} has no list {key!r}")
        return found

    def _connect(self) -> adapter.Adapter:
        with self._guard:
            if self._adapter is None:
                auth = loading.load_auth_from_conf_options(self._conf, self.GROUP)
                if auth is None:
                    raise Retriable(f"[{self.GROUP}] auth_type must be set")
                session = loading.load_session_from_conf_options(self._conf, self.GROUP, auth=auth)
                self._adapter = loading.load_adapter_from_conf_options(
                    self._conf, self.GROUP, session=session, auth=auth
                )
            return self._adapter


def unexpected_status(response: ServiceResponse, path: str) -> Retriable:
    """Return the error for a status that is not expected."""
    return Retriable(f"HTTP status {response.status} for {path}")


def _body(response: ServiceResponse, path: str) -> Mapping[str, Any]:
    if not response.is_success:
        raise unexpected_status(response, path)
    return response.body


def _summarize(error: Exception) -> str:
    # The rest of the message lists connection pools and sockets.
    message = str(error).partition(": HTTP")[0]
    return f"{type(error).__name__}: {message}"[:200]


def opts() -> list[cfg.Opt]:
    """Return keystoneauth's options of a service's group, for the sample file."""
    return [
        *loading.get_session_conf_options(),
        *loading.get_adapter_conf_options(include_deprecated=False),
        *loading.get_auth_common_conf_options(),
        *loading.get_auth_plugin_conf_options("password"),
    ]


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return (group, keystoneauth's options), for the sample file."""
    return [(group, opts()) for group in SERVICE_GROUPS]
