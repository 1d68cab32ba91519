# SPDX-License-Identifier: Apache-2.0
"""Asks nova's API: one server, its actions, or all servers that changed."""

import datetime
from collections.abc import Iterator, Mapping
from typing import Any

from oslo_config import cfg

from vmmonitor.model.errors import Retriable
from vmmonitor.openstack.service import Service

GROUP = "nova"
#: Tells of locked servers (2.9), embeds the flavor (2.47), and names servers of a cell that is
#: down instead of leaving them out (2.69, Stein).
MICROVERSION = "2.69"
#: Pages of one listing, after which something is wrong with it.
MOST_PAGES = 10_000


class NovaAPI:
    """One session with keystone and nova, for any thread."""

    def __init__(self, conf: cfg.ConfigOpts):
        """Register the options; connect to nothing yet."""
        self._service = Service(conf, GROUP, "compute")

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
        answer = self._service.ask("GET", path, query=query, microversion=MICROVERSION)
        # A proxy in front of nova has a 404 too, but not these words.
        if missing and answer.status == 404 and _is_map(answer.body, "itemNotFound"):
            return None
        if answer.status != 200 or not answer.body:
            raise Retriable(f"it answers {answer.status} to {path}")
        return answer.body


def _part(answer: Mapping[str, Any], name: str, kind: type) -> Any:
    part = answer.get(name)
    if not isinstance(part, kind):
        raise Retriable(f"its answer has no {name!r}")
    return part


def _is_map(answer: Any, name: str) -> bool:
    return isinstance(answer, Mapping) and isinstance(answer.get(name), Mapping)
