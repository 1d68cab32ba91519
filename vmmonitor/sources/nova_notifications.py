# SPDX-License-Identifier: Apache-2.0
"""The nova_notifications source: nova's operations on instances and its errors, from the bus.

Runs in the engines, which share one queue, so that each message reaches one engine. A message that
cannot be read is counted, logged, acknowledged, and remembered without its content.
"""

import collections
import time
from collections.abc import Callable, Mapping
from typing import Any

from oslo_config import cfg
from oslo_log import log

from vmmonitor.model.errors import InvalidMessage
from vmmonitor.model.event import NOVA_SOURCE, RawEvent, Reachability
from vmmonitor.model.instance import Instance
from vmmonitor.rpc.notifications import Listener
from vmmonitor.sources import Observe, Source
from vmmonitor.sources.nova_payloads import (
    NovaMessage,
    decode_message,
    request_id_of,
)

LOG = log.getLogger(__name__)

#: Maximum number of unreadable messages that are remembered, newest last.
MAX_UNREADABLE = 20
#: Maximum number of requests whose instance is remembered.
MAX_REQUESTS = 1000
#: Maximum number of kinds of unreadable messages that are logged, once each.
MAX_LOGGED_KINDS = 100
LISTENER_TIMEOUT = 8.0
_MESSAGE_FIELDS = ("event_type", "payload", "context", "message_id", "timestamp")


def _now() -> int:
    return time.time_ns() // 1000


class NovaNotifications(Source):
    """Listens to nova's notifications."""

    def __init__(self, conf: cfg.ConfigOpts, observe: Observe, now: Callable[[], int] = _now):
        """Store the collaborators; start no thread.

        :param now: returns microseconds since the epoch.
        """
        super().__init__(conf, observe)
        self._now = now
        #: Number of messages, by result.
        self.counts: collections.Counter[str] = collections.Counter()
        #: The newest unreadable messages: type and shape, without content.
        self.unreadable: collections.deque[dict[str, str]] = collections.deque(
            maxlen=MAX_UNREADABLE
        )
        #: Why the source is not connected; empty if it is; None before the first attempt.
        self._trouble: str | None = None
        self._logged_kinds: set[str] = set()
        #: Id of a request -> its instance.
        self._instances: collections.OrderedDict[str, Instance] = collections.OrderedDict()
        group = conf.nova_notifications
        self._listener = Listener(
            conf,
            url=group.transport_url,
            exchange=group.exchange,
            topics=group.topics,
            pool=group.pool,
            take=self.receive,
            connected=self._report_reachability,
        )

    def start(self) -> None:
        """Listen as soon as the broker is reachable."""
        self._listener.start()

    def stop(self) -> None:
        """Stop listening; a message in progress returns to the queue."""
        self._listener.stop(LISTENER_TIMEOUT)

    def receive(self, message: Mapping[str, Any]) -> None:
        """Observe the event of a message; blocks while too many events wait to be stored.

        :param message: as ``vmmonitor.rpc.notifications`` passes it.
        """
        fields = {name: message.get(name) for name in _MESSAGE_FIELDS}
        parsed = NovaMessage(publisher=message.get("publisher_id"), **fields)
        try:
            raw = decode_message(parsed, self._now(), self._instances.get(request_id_of(parsed)))
        except InvalidMessage as error:
            self._note_unreadable(parsed, str(error))
            return
        except Exception as error:
            self._note_unreadable(parsed, f"{type(error).__name__}: {error}")
            return
        self.counts["of instances" if raw else "of no instance"] += 1
        if raw:
            self._remember_request(raw)
            self.observe(raw)

    def _report_reachability(self, reason: str) -> None:
        if reason == self._trouble:
            return
        self._trouble = reason
        self.observe(
            Reachability(source=NOVA_SOURCE, reachable=not reason, at=self._now(), reason=reason)
        )

    def _remember_request(self, raw: RawEvent) -> None:
        """Remember the instance of a request.

        The versioned form of an exception names no instance; an earlier message of the same
        request, usually the start of an operation, does.
        """
        request = raw.attributes.get("request_id")
        if request:
            self._instances[request] = raw.instance
            self._instances.move_to_end(request)
            if len(self._instances) > MAX_REQUESTS:
                self._instances.popitem(last=False)

    def _note_unreadable(self, message: NovaMessage, reason: str) -> None:
        """Remember type and shape of a message, without its content.

        The legacy form of an exception contains the token of its caller.
        """
        self.counts["unreadable"] += 1
        kind = f"{message.event_type!r:.80} of {message.publisher!r:.80}"
        payload = message.payload
        keys = sorted(map(str, payload)) if isinstance(payload, Mapping) else []
        shape = ", ".join(keys)[:500] or type(payload).__name__
        self.unreadable.append(
            {
                "message": kind,
                "id": f"{message.message_id!r:.80}",
                "payload": shape,
                "reason": reason[:200],
            }
        )
        if kind not in self._logged_kinds and len(self._logged_kinds) < MAX_LOGGED_KINDS:
            self._logged_kinds.add(kind)
            LOG.warning("Ignored unreadable notification %s, and all like it: %s", kind, reason)
