# SPDX-License-Identifier: Apache-2.0
"""Tells masakari that a server has failed, and follows what it does about it."""

from oslo_config import cfg

from vmmonitor.drivers import AskAgent, Driver
from vmmonitor.drivers.following import Deadline, complaint, excerpt, failed, follow, refused, said
from vmmonitor.model.errors import Retriable
from vmmonitor.model.recovery import Outcome, RecoveryRequest
from vmmonitor.openstack import masakari
from vmmonitor.openstack.masakari import MasakariAPI, MasakariNotification
from vmmonitor.openstack.service import Answer

#: What masakari's engine acts on (its ``instance_events``), and does the same about: the server is
#: stopped and started. Anything else it stores as ignored, so our own cause is not told.
PAIRS = (
    ("LIFECYCLE", "STOPPED_FAILED"),
    ("IO_ERROR", "IO_ERROR_REPORT"),
    ("QEMU_GUEST_AGENT_ERROR", "STOPPED_FAILED"),
)
#: Microseconds by which the clock of a host, whose monitor of masakari's was faster, may be late.
CLOCKS = 5_000_000
#: What an end of masakari's means that does not speak for itself.
MEANINGS = {
    masakari.ERROR: "it will try once more by itself",
    masakari.IGNORED: "the server is paused or rescued, or its segment is disabled",
}
#: Seconds for a question of a health check.
CHECK = 10.0


class MasakariDriver(Driver):
    """Posts a notification, or finds the one that masakari has; then looks how it ends."""

    def __init__(self, conf: cfg.ConfigOpts, ask_agent: AskAgent):
        """Register the options; connect to nothing yet."""
        super().__init__(conf, ask_agent)
        self._api = MasakariAPI(conf)

    def check(self) -> str:
        """Ask for notifications and segments, as the account that posts."""
        try:
            for answer in (self._api.newest(CHECK), self._api.segments(CHECK)):
                if not answer.is_good:
                    return f"it {complaint(masakari.GROUP, answer)}"
        except Retriable as error:
            return f"it cannot be asked: {error}"
        if answer.body.get("segments") == []:
            return "it has no segment, so it knows no host to act on"
        return ""

    def recover(self, request: RecoveryRequest) -> Outcome:
        """Have masakari act once, and follow it to its end.

        Masakari knows no ids of ours. What tells a recovery's notification from others is the
        server's UUID and the second in which the recovery was asked for.
        """
        deadline = Deadline(request.timeout)
        try:
            known: MasakariNotification | Outcome | None = None
            if request.taken_over or request.recovery.attempt > 1:
                known = self._known(request, deadline)
            told = known or self._tell(request, deadline)
            return told if isinstance(told, Outcome) else self._follow(told, deadline)
        except Retriable as error:
            return failed(f"masakari cannot be asked: {error}", retry=True)

    def _tell(
        self, request: RecoveryRequest, deadline: Deadline
    ) -> MasakariNotification | Outcome:
        """Post it, in other words if masakari takes these for a repeat.

        For ``duplicate_notification_detection_interval`` (180 s) masakari refuses a second
        notification with the same payload, though the server has failed a second time.
        """
        incident = request.incident
        for pair in PAIRS:
            answer = self._api.tell(
                *(incident.host, incident.instance.uuid, pair, _asked_at(request)),
                timeout=deadline.left(),
            )
            if answer.is_good:
                return masakari.told(answer)
            if answer.status != 409 or "maintenance" in said(answer):
                return _refusal(answer, incident.host)
            if known := self._known(request, deadline):
                return known
        return failed(
            "masakari was told of this server in all the words it acts on, and takes any more "
            "for a repeat (its duplicate_notification_detection_interval)"
        )

    def _known(self, request: RecoveryRequest, deadline: Deadline) -> MasakariNotification | None:
        """Return the notification that tells of this very failure; None if there is none.

        It is the one of this recovery, whatever came of it, or one that masakari has not finished,
        be it of an earlier attempt or of masakari's own monitor.
        """
        since = request.incident.opened_at - CLOCKS
        uuid = request.incident.instance.uuid
        # A recovery is asked for in this second: what masakari keeps has no fractions.
        asked_at = _asked_at(request) // 1_000_000 * 1_000_000
        for one in self._api.notifications(uuid, min(since, asked_at), deadline.left()):
            if one.status not in masakari.ENDS or one.generated_at >= asked_at:
                return one
        return None

    def _follow(self, told: MasakariNotification, deadline: Deadline) -> Outcome:
        def look() -> Outcome | None:
            now = self._api.notification(told.uuid, deadline.left())
            if now is None:
                return failed(f"masakari has no notification {told.uuid} any more", retry=True)
            # What is in error masakari tries once more by itself: the next attempt waits for that.
            is_error = now.status == masakari.ERROR and told.status != masakari.ERROR
            is_over = is_error or now.status in masakari.ENDS
            return _outcome(now) if is_over else None

        if outcome := follow(look, deadline, self.conf.masakari.poll_interval):
            return outcome
        return failed(f"masakari has not finished notification {told.uuid} yet", retry=True)


def _outcome(now: MasakariNotification) -> Outcome:
    message = f"masakari's notification {now.uuid} is {now.status}"
    if why := excerpt(now.message) or MEANINGS.get(now.status):
        message += f": {why}"
    if now.status == masakari.FINISHED:
        return Outcome(move="wait", message=message)
    return failed(message, retry=now.status != masakari.IGNORED)


def _asked_at(request: RecoveryRequest) -> int:
    """Return when the recovery was asked for; the same after a takeover."""
    return max(request.recovery.created_at, request.recovery.not_before)


def _refusal(answer: Answer, host: str) -> Outcome:
    if answer.status == 409:
        return failed(
            f"masakari has host {host} in maintenance and does nothing for its servers: end that "
            f"with 'openstack segment host update --on_maintenance False SEGMENT {host}'"
        )
    if answer.status == 400 and "could not be found" in said(answer):
        return failed(
            f"host {host} is in no segment of masakari: add it with "
            f"'openstack segment host create {host} COMPUTE SSH SEGMENT'"
        )
    return refused(masakari.GROUP, answer)
