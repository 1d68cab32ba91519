# SPDX-License-Identifier: Apache-2.0
"""Client of masakari: post notifications of failed servers and read their status.

Only microversion 1.0 is used. Version 1.1 also reports the progress of a recovery, but the API
then calls its engine, and masakari 22 under uWSGI often waits a minute for a lost response. The
worker accepts no notification meanwhile.
"""

import dataclasses
import datetime
import enum
from collections.abc import Iterator, Mapping
from typing import Any

from vmmonitor import text
from vmmonitor.model.errors import Retriable
from vmmonitor.openstack.service import Service, ServiceResponse, unexpected_status

#: Size of a page of notifications, and the maximum number of pages that are read.
PAGE_SIZE = 100
MAX_NOTIFICATION_PAGES = 100


class NotificationStatus(enum.StrEnum):
    """The status of a notification in masakari."""

    NEW = "new"
    RUNNING = "running"
    #: The workflow failed; masakari repeats it once.
    ERROR = "error"
    FAILED = "failed"
    FINISHED = "finished"
    IGNORED = "ignored"


FINAL_STATUSES = frozenset(
    {NotificationStatus.FAILED, NotificationStatus.FINISHED, NotificationStatus.IGNORED}
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MasakariNotification:
    """A notification of one server, as masakari stores it.

    :param status: usually one of NotificationStatus.
    :param generated_at: time of the failure, in microseconds since the epoch, in whole seconds.
    :param message: text of masakari; usually ''.
    """

    uuid: str
    status: str
    instance_uuid: str
    generated_at: int
    message: str = ""


class MasakariAPI(Service):
    """A client of masakari."""

    GROUP = "masakari"
    SERVICE_TYPE = "instance-ha"

    def post_notification(
        self, host: str, instance_uuid: str, event: tuple[str, str], at: int, timeout: float
    ) -> ServiceResponse:
        """Report a failed server, and return the response with any status.

        :param event: values of ``event`` and ``vir_domain_event``.
        :param at: microseconds since the epoch; masakari stores whole seconds.
        """
        kind, detail = event
        notification = {
            "type": "VM",
            "hostname": host,
            "generated_time": _to_text(at),
            "payload": {
                "event": kind,
                "instance_uuid": instance_uuid,
                "vir_domain_event": detail,
            },
        }
        body = {"notification": notification}
        return self.request("POST", "/notifications", body=body, timeout=timeout)

    def get_notification(self, uuid: str, timeout: float) -> MasakariNotification | None:
        """Return a notification, or None if it does not exist."""
        body = self._get_or_none(text.url_path("notifications", uuid), timeout=timeout)
        return None if body is None else _notification_in(body)

    def list_notifications(
        self, instance_uuid: str, since: int, timeout: float
    ) -> Iterator[MasakariNotification]:
        """Yield the notifications of a server that were generated since a time, newest first.

        :param since: microseconds since the epoch.
        """
        query = {"type": "VM", "generated-since": _to_text(since), "limit": str(PAGE_SIZE)}
        query |= {"sort_key": "created_at", "sort_dir": "desc"}
        for _ in range(MAX_NOTIFICATION_PAGES):
            page = self._get_list("/notifications", "notifications", query, timeout)
            for found in page:
                notification = _read(found)
                if notification and notification.instance_uuid == instance_uuid:
                    yield notification
            last = page[-1] if page else None
            if len(page) < PAGE_SIZE or not isinstance(last, Mapping):
                return
            query["marker"] = str(last.get("id"))
        raise Retriable(f"the list of notifications has more than {MAX_NOTIFICATION_PAGES} pages")


def read_notification(response: ServiceResponse) -> MasakariNotification:
    """Return the notification in a response.

    :raises vmmonitor.model.errors.Retriable: the response contains no valid notification.
    """
    if not response.is_success:
        raise unexpected_status(response, "/notifications")
    return _notification_in(response.body)


def _notification_in(body: Mapping[str, Any]) -> MasakariNotification:
    notification = _read(body.get("notification"))
    if notification is None:
        raise Retriable("the response contains no valid notification")
    return notification


def _read(found: Any) -> MasakariNotification | None:
    """Return a notification from its JSON form, or None for an invalid form."""
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


def _to_text(at: int) -> str:
    moment = datetime.datetime.fromtimestamp(at // 1_000_000, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
