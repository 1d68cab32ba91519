# SPDX-License-Identifier: Apache-2.0
"""Asks masakari's API: tells it of a failed server, and looks what it makes of that.

Its microversion 1.1 also tells how far a recovery came. That is not asked for: the API has to ask
its engine, and masakari 22 under uWSGI then often waits a minute for an answer that got lost,
while the worker that waits takes no notification.
"""

import dataclasses
import datetime
from collections.abc import Iterator, Mapping
from typing import Any

from oslo_config import cfg

from vmmonitor.model.errors import Retriable
from vmmonitor.openstack.service import Answer, Service

GROUP = "masakari"
SERVICE_TYPE = "instance-ha"
#: Notifications in a page, and pages after which something is wrong with a list.
PAGE = 100
MOST_PAGES = 100

#: What masakari makes of a notification.
ERROR = "error"
FAILED = "failed"
FINISHED = "finished"
IGNORED = "ignored"
ENDS = frozenset({FAILED, FINISHED, IGNORED})


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MasakariNotification:
    """What masakari was told of one server.

    :param status: ``new``, ``running``, ERROR (it will be tried once more), or one of ENDS.
    :param generated_at: microseconds since the epoch, in whole seconds.
    :param message: masakari's own word on it; mostly empty.
    """

    uuid: str
    status: str
    instance_uuid: str
    generated_at: int
    message: str = ""


class MasakariAPI:
    """One session with keystone and masakari, for any thread.

    Everything raises ``vmmonitor.model.errors.Retriable`` if masakari does not answer, or not what
    was asked; ``timeout`` is the seconds to wait for it.
    """

    def __init__(self, conf: cfg.ConfigOpts):
        """Register the options; connect to nothing yet."""
        self._service = Service(conf, GROUP, SERVICE_TYPE)

    def tell(
        self, host: str, instance_uuid: str, pair: tuple[str, str], at: int, timeout: float
    ) -> Answer:
        """Post that a server has failed, and return whatever masakari answers.

        :param pair: the ``event`` and ``vir_domain_event`` to tell; masakari takes no further one.
        :param at: microseconds since the epoch, of which masakari keeps the seconds.
        """
        event, detail = pair
        payload = {"event": event, "instance_uuid": instance_uuid, "vir_domain_event": detail}
        notification = {
            "type": "VM",
            "hostname": host,
            "generated_time": _written(at),
            "payload": payload,
        }
        body = {"notification": notification}
        return self._service.ask("POST", "/notifications", body=body, timeout=timeout)

    def notification(self, uuid: str, timeout: float) -> MasakariNotification | None:
        """Return a notification; None if there is none, or no more."""
        answer = self._service.ask("GET", f"/notifications/{uuid}", timeout=timeout)
        if answer.status == 404 and isinstance(answer.body.get("itemNotFound"), Mapping):
            return None
        return told(answer)

    def notifications(
        self, instance_uuid: str, since: int, timeout: float
    ) -> Iterator[MasakariNotification]:
        """Yield the notifications of a server that were generated since then, the newest first.

        :param since: microseconds since the epoch.
        """
        query = {"type": "VM", "generated-since": _written(since), "limit": str(PAGE)}
        query |= {"sort_key": "created_at", "sort_dir": "desc"}
        for _ in range(MOST_PAGES):
            answer = self._service.ask("GET", "/notifications", query=query, timeout=timeout)
            page = answer.body.get("notifications")
            if not answer.is_good or not isinstance(page, list):
                raise Retriable(f"it answers {answer.status} to a list of notifications")
            readable = (_read(one) for one in page)
            yield from (one for one in readable if one and one.instance_uuid == instance_uuid)
            last = page[-1] if page else None
            if len(page) < PAGE or not isinstance(last, Mapping):
                return
            query["marker"] = str(last.get("id"))
        raise Retriable("its list of notifications does not end")

    def segments(self, timeout: float) -> Answer:
        """Return what masakari answers to the question for its segments."""
        return self._service.ask("GET", "/segments", query={"limit": "1"}, timeout=timeout)

    def newest(self, timeout: float) -> Answer:
        """Return what masakari answers to the question for one notification."""
        return self._service.ask("GET", "/notifications", query={"limit": "1"}, timeout=timeout)


def told(answer: Answer) -> MasakariNotification:
    """Return the notification in an answer.

    :raises vmmonitor.model.errors.Retriable: there is none.
    """
    notification = _read(answer.body.get("notification"))
    if not answer.is_good or notification is None:
        raise Retriable(f"it answers {answer.status} and no notification")
    return notification


def _read(found: Any) -> MasakariNotification | None:
    """Return a notification as masakari's API shows it; None if it cannot be read."""
    if not isinstance(found, Mapping) or not isinstance(found.get("payload"), Mapping):
        return None
    uuid, status = found.get("notification_uuid"), found.get("status")
    if not isinstance(uuid, str) or not isinstance(status, str):
        return None
    try:
        moment = datetime.datetime.fromisoformat(str(found.get("generated_time")))
        generated_at = int(moment.replace(tzinfo=moment.tzinfo or datetime.UTC).timestamp())
    except (ValueError, OverflowError):
        return None
    return MasakariNotification(
        uuid=uuid,
        status=status,
        instance_uuid=str(found["payload"].get("instance_uuid")),
        generated_at=generated_at * 1_000_000,
        message=str(found.get("message") or ""),
    )


def _written(at: int) -> str:
    moment = datetime.datetime.fromtimestamp(at // 1_000_000, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
