# SPDX-License-Identifier: Apache-2.0
"""Asks nova's API: one server, its actions, or all servers that changed."""

import datetime
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from keystoneauth1 import adapter, loading
from keystoneauth1 import exceptions as errors
from oslo_config import cfg

from vmmonitor.model.errors import Retriable

GROUP = "nova"
#: Tells of locked servers (2.9), embeds the flavor (2.47), and names servers of a cell that is
#: down instead of leaving them out (2.69, Stein).
MICROVERSION = "2.69"
#: Pages of one listing, after which something is wrong with it.
MOST_PAGES = 10_000
#: Seconds for an answer, unless the operator says otherwise.
TIMEOUT = 10


class NovaAPI:
    """One session with keystone and nova, for any thread."""

    def __init__(self, conf: cfg.ConfigOpts):
        """Register the options; connect to nothing yet."""
        self._conf = conf
        self._guard = threading.Lock()
        self._adapter: adapter.Adapter | None = None
        loading.register_session_conf_options(conf, GROUP)
        loading.register_adapter_conf_options(conf, GROUP, include_deprecated=False)
        loading.register_auth_conf_options(conf, GROUP)
        conf.set_default("timeout", TIMEOUT, group=GROUP)
        conf.set_default("service_type", "compute", group=GROUP)

    def server(self, uuid: str) -> Mapping[str, Any] | None:
        """Return a server as nova shows it; None if nova knows none, or no more.

        :raises vmmonitor.model.errors.Retriable: nova does not answer.
        """
        answer = self._get(f"/servers/{uuid}", missing=True)
        return None if answer is None else _part(answer, "server", dict)

    def actions(self, uuid: str) -> list[Mapping[str, Any]]:
        """Return what was done to a server, the newest first.

        :raises vmmonitor.model.errors.Retriable: nova does not answer.
        """
        answer = self._get(f"/servers/{uuid}/os-instance-actions")
        actions = _part(answer or {}, "instanceActions", list)
        return [one for one in actions if isinstance(one, Mapping)]

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
            page = [one for one in _part(answer, "servers", list) if isinstance(one, Mapping)]
            yield from page
            last = str(page[-1].get("id", "")) if page else ""
            if not answer.get("servers_links") or last in ("", query.get("marker")):
                return
            query["marker"] = last
        raise Retriable("nova's list of servers does not end")

    def _get(
        self, path: str, query: Mapping[str, str] | None = None, missing: bool = False
    ) -> Mapping[str, Any] | None:
        """Return nova's answer; None if there is no such thing, where that may be."""
        try:
            response = self._connection().get(
                path, params=dict(query or {}), microversion=MICROVERSION, raise_exc=False
            )
            answer = response.json()
        except ValueError as error:
            raise Retriable(f"its answer to {path} is not JSON") from error
        except (errors.ClientException, cfg.Error, OSError) as error:
            # The rest is the library's word on its sockets.
            word = str(error).partition(": HTTP")[0]
            raise Retriable(f"{type(error).__name__}: {word}"[:200]) from error
        # A proxy in front of nova has a 404 too, but not these words.
        if missing and response.status_code == 404 and _is_map(answer, "itemNotFound"):
            return None
        if response.status_code != 200 or not isinstance(answer, Mapping):
            raise Retriable(f"it answers {response.status_code} to {path}")
        return answer

    def _connection(self) -> adapter.Adapter:
        with self._guard:
            if self._adapter is None:
                auth = loading.load_auth_from_conf_options(self._conf, GROUP)
                session = loading.load_session_from_conf_options(self._conf, GROUP, auth=auth)
                self._adapter = loading.load_adapter_from_conf_options(
                    self._conf, GROUP, session=session, auth=auth
                )
            return self._adapter


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return (group, options) of keystoneauth, for the sample file."""
    return [
        (
            GROUP,
            [
                *loading.get_session_conf_options(),
                *loading.get_adapter_conf_options(include_deprecated=False),
                *loading.get_auth_common_conf_options(),
                *loading.get_auth_plugin_conf_options("password"),
            ],
        )
    ]


def _part(answer: Mapping[str, Any], name: str, kind: type) -> Any:
    part = answer.get(name)
    if not isinstance(part, kind):
        raise Retriable(f"its answer has no {name!r}")
    return part


def _is_map(answer: Any, name: str) -> bool:
    return isinstance(answer, Mapping) and isinstance(answer.get(name), Mapping)
