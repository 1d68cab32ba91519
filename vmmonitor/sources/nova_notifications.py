# SPDX-License-Identifier: Apache-2.0
"""What nova does with instances, and its own errors, as nova tells it on the message bus.

Runs in the engines, which share one queue: each message is one engine's. A message that cannot
be read is set aside: counted, kept in part for a person, told in the log, and acknowledged.
"""

import collections
import time
from collections.abc import Callable, Mapping
from typing import Any

from oslo_config import cfg
from oslo_log import log

from vmmonitor.model.errors import InvalidMessage
from vmmonitor.model.event import RawEvent, Reachability
from vmmonitor.model.instance import Instance
from vmmonitor.rpc.notifications import Listener
from vmmonitor.sources import Observe, Source
from vmmonitor.sources.nova_payloads import SOURCE, NovaMessage, decode, request_of

LOG = log.getLogger(__name__)

#: Unreadable messages, and requests whose instance is remembered, of which the newest are kept.
SET_ASIDE = 20
REQUESTS = 1000
#: Kinds of trouble that are told in the log, once each.
KINDS = 100
STOP_TIMEOUT = 8.0


def _now() -> int:
    return time.time_ns() // 1000


class NovaNotifications(Source):
    """Listens to nova's notifications."""

    def __init__(self, conf: cfg.ConfigOpts, observe: Observe, now: Callable[[], int] = _now):
        """Keep what is needed; start nothing.

        :param now: microseconds since the epoch.
        """
        super().__init__(conf, observe)
        self._now = now
        #: How many messages became an event, told of no instance, or could not be read.
        self.counts: collections.Counter[str] = collections.Counter()
        #: The newest that could not be read: what is known of them, without their content.
        self.set_aside: collections.deque[dict[str, str]] = collections.deque(maxlen=SET_ASIDE)
        #: Why it does not listen; None before it has tried.
        self._trouble: str | None = None
        self._told_of: set[str] = set()
        self._instances: collections.OrderedDict[str, Instance] = collections.OrderedDict()
        group = conf.nova_notifications
        self._listener = Listener(
            *(conf, group.transport_url, group.exchange, group.topics, group.pool),
            take=self.take,
            connected=self._connected,
        )

    def start(self) -> None:
        """Listen as soon as there is a broker."""
        self._listener.start()

    def stop(self) -> None:
        """Take nothing more; what is under way goes back to the queue."""
        self._listener.stop(STOP_TIMEOUT)

    def take(self, message: Mapping[str, Any]) -> None:
        """Observe what a message tells; waits while too much waits to be stored.

        :param message: as ``vmmonitor.rpc.notifications`` gives it.
        """
        told = NovaMessage(
            publisher=message.get("publisher_id"),
            **{name: message.get(name) for name in _PARTS},
        )
        try:
            raw = decode(told, self._now(), self._instances.get(request_of(told)))
        except InvalidMessage as error:
            self._put_aside(told, str(error))
            return
        except Exception as error:
            self._put_aside(told, f"{type(error).__name__}: {error}")
            return
        self.counts["of instances" if raw else "of no instance"] += 1
        if raw:
            self._remember(raw)
            self.observe(raw)

    def _connected(self, reason: str) -> None:
        if reason == self._trouble:
            return
        self._trouble = reason
        self.observe(
            Reachability(source=SOURCE, reachable=not reason, at=self._now(), reason=reason)
        )

    # -- errors without an instance ------------------------------------------------------------
    def _remember(self, raw: RawEvent) -> None:
        """Keep whose request it was.

        The versioned form of an exception names no instance. What the same request did just
        before, most often the start of something, does.
        """
        request = raw.attributes.get("request_id")
        if request:
            self._instances[request] = raw.instance
            self._instances.move_to_end(request)
            if len(self._instances) > REQUESTS:
                self._instances.popitem(last=False)

    # -- what cannot be read -------------------------------------------------------------------
    def _put_aside(self, told: NovaMessage, reason: str) -> None:
        """Keep what tells which messages these are, and nothing of what they say.

        The legacy form of an exception carries its caller's token.
        """
        self.counts["unreadable"] += 1
        kind = f"{told.event_type!r:.80} of {told.publisher!r:.80}"
        keys = sorted(map(str, told.payload)) if isinstance(told.payload, Mapping) else []
        shape = ", ".join(keys)[:500] or type(told.payload).__name__
        about = {"message": kind, "id": f"{told.message_id!r:.80}", "payload": shape}
        self.set_aside.append(about | {"reason": reason[:200]})
        if kind not in self._told_of and len(self._told_of) < KINDS:
            self._told_of.add(kind)
            LOG.warning("Cannot read %s, and sets it and those like it aside: %s", kind, reason)


_PARTS = ("event_type", "payload", "context", "message_id", "timestamp")
