# SPDX-License-Identifier: Apache-2.0
"""Report a failed server to masakari, and wait until masakari has handled it."""

from oslo_config import cfg

from vmmonitor.drivers import Driver, HostAgents
from vmmonitor.drivers.host_checks import HostChecks
from vmmonitor.drivers.polling import (
    CHECK_TIMEOUT,
    MAX_EXCERPT,
    Deadline,
    describe_error,
    error_message,
    fail,
    fail_by_response,
    lost_lease,
    poll,
)
from vmmonitor.model.errors import Retriable
from vmmonitor.model.recovery import Lease, Outcome, RecoveryRequest
from vmmonitor.model.states import RecoveryTransition
from vmmonitor.openstack.masakari import (
    FINAL_STATUSES,
    MasakariAPI,
    MasakariNotification,
    NotificationStatus,
    read_notification,
)
from vmmonitor.openstack.service import ServiceResponse
from vmmonitor.text import one_line

#: The events that masakari's engine handles (its ``instance_events``), all in the same way: it
#: stops and starts the server. masakari ignores any other event, so the own cause is not sent.
NOTIFICATION_EVENTS = (
    ("LIFECYCLE", "STOPPED_FAILED"),
    ("IO_ERROR", "IO_ERROR_REPORT"),
    ("QEMU_GUEST_AGENT_ERROR", "STOPPED_FAILED"),
)
#: Maximum delay of a host's clock whose masakari monitor sent the notification first, in
#: microseconds.
HOST_CLOCK_TOLERANCE = 5_000_000
#: Explanation of a status.
STATUS_REASONS: dict[str, str] = {
    NotificationStatus.ERROR: "masakari repeats the workflow once",
    NotificationStatus.IGNORED: "the server is paused or rescued, or its segment is disabled",
}


class MasakariDriver(Driver):
    """Posts a notification, or uses an existing one, and polls its status."""

    def __init__(self, conf: cfg.ConfigOpts, agents: HostAgents):
        """Register the options; do not connect yet."""
        super().__init__(conf, agents)
        self._api = MasakariAPI(conf)

    def check(self) -> str:
        """Read notifications and segments with the account that posts notifications."""
        try:
            for path in ("/notifications", "/segments"):
                response = self._api.probe(path, CHECK_TIMEOUT)
                if not response.is_success:
                    return f"masakari {describe_error(MasakariAPI.GROUP, response)}"
        except Retriable as error:
            return _request_failed(error)
        if response.body.get("segments") == []:
            return "masakari has no segment, so it acts on no host"
        return ""

    def recover(self, request: RecoveryRequest) -> Outcome:
        """Have masakari recover the server once, and wait for the end.

        masakari does not store the id of a recovery. A notification belongs to a recovery if the
        UUID of the server and the second of the recovery's creation are the same.
        """
        deadline = Deadline(request.timeout)
        try:
            known: MasakariNotification | Outcome | None = None
            if request.taken_over or request.recovery.attempt > 1:
                known = self._find(request, deadline)
            posted = known or self._post(request, deadline)
            if isinstance(posted, Outcome):
                return posted
            return self._wait(posted, deadline, request.lease)
        except Retriable as error:
            return fail(_request_failed(error), retry=True)

    def _post(
        self, request: RecoveryRequest, deadline: Deadline
    ) -> MasakariNotification | Outcome:
        """Post a notification, with another event if masakari rejects it as a duplicate.

        For ``duplicate_notification_detection_interval`` (180 s) masakari rejects a second
        notification with the same payload, although the server has failed a second time.
        """
        incident = request.incident
        if reason := HostChecks(self.agents, request, deadline.remaining).deny_restart():
            return fail(reason, retry=True)
        for event in NOTIFICATION_EVENTS:
            if not request.lease.is_held():
                return lost_lease()
            response = self._api.post_notification(
                incident.host,
                incident.instance.uuid,
                event,
                _requested_at(request),
                timeout=deadline.remaining(),
            )
            if response.is_success:
                return read_notification(response)
            if response.status != 409 or "maintenance" in error_message(response):
                return _rejection(response, incident.host)
            if known := self._find(request, deadline):
                return known
        return fail(
            "masakari rejected all events that it handles as duplicates "
            "(its duplicate_notification_detection_interval)"
        )

    def _find(self, request: RecoveryRequest, deadline: Deadline) -> MasakariNotification | None:
        """Return the notification of this failure, or None.

        It is either the notification of this recovery, in any status, or one that masakari has
        not finished, of an earlier attempt or of masakari's own monitor.
        """
        since = request.incident.opened_at - HOST_CLOCK_TOLERANCE
        uuid = request.incident.instance.uuid
        # masakari stores whole seconds.
        requested_at = _requested_at(request) // 1_000_000 * 1_000_000
        for notification in self._api.list_notifications(
            uuid, min(since, requested_at), deadline.remaining()
        ):
            is_own = notification.generated_at >= requested_at
            if is_own or notification.status not in FINAL_STATUSES:
                return notification
        return None

    def _wait(self, posted: MasakariNotification, deadline: Deadline, lease: Lease) -> Outcome:
        def check() -> Outcome | None:
            current = self._api.get_notification(posted.uuid, deadline.remaining())
            if current is None:
                return fail(f"masakari no longer has notification {posted.uuid}", retry=True)
            # masakari repeats the workflow of a new error once; the next attempt waits for that.
            error = NotificationStatus.ERROR
            is_new_error = current.status == error and posted.status != error
            is_over = is_new_error or current.status in FINAL_STATUSES
            return _outcome(current) if is_over else None

        if outcome := poll(check, deadline, self.conf.masakari.poll_interval, lease):
            return outcome
        return fail(f"masakari has not finished notification {posted.uuid} in time", retry=True)


def _outcome(notification: MasakariNotification) -> Outcome:
    status = notification.status
    message = f"masakari's notification {notification.uuid} is {status}"
    if reason := one_line(notification.message, MAX_EXCERPT) or STATUS_REASONS.get(status):
        message += f": {reason}"
    if status == NotificationStatus.FINISHED:
        return Outcome(move=RecoveryTransition.WAIT, message=message)
    return fail(message, retry=status != NotificationStatus.IGNORED)


def _requested_at(request: RecoveryRequest) -> int:
    """Return the time of the recovery's request; the same after a takeover."""
    return max(request.recovery.created_at, request.recovery.not_before)


def _request_failed(error: Retriable) -> str:
    return f"the request to masakari failed: {error}"


def _rejection(response: ServiceResponse, host: str) -> Outcome:
    if response.status == 409:
        return fail(
            f"host {host} is in maintenance in masakari, which does not recover its servers: end "
            f"that with 'openstack segment host update --on_maintenance False SEGMENT {host}'"
        )
    if response.status == 400 and "could not be found" in error_message(response):
        return fail(
            f"host {host} is in no segment of masakari: add it with "
            f"'openstack segment host create {host} COMPUTE SSH SEGMENT'"
        )
    return fail_by_response(MasakariAPI.GROUP, response)
