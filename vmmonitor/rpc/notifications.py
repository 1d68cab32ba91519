# SPDX-License-Identifier: Apache-2.0
"""Receive the notifications of other OpenStack services from the message bus."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import oslo_messaging
from oslo_config import cfg
from oslo_log import log
from oslo_messaging.notify import dispatcher

from vmmonitor.model.errors import VmmonitorError
from vmmonitor.rpc import transport as transports

LOG = log.getLogger(__name__)

#: Maximum number of unacknowledged messages in memory. While events cannot be stored, further
#: messages stay in the queue of the broker.
PREFETCH = 50
#: Interval between attempts to connect, in seconds.
_RETRY = 5.0

#: Function that handles a message: publisher, event type, payload, context, message id, timestamp.
#: It may block.
Take = Callable[[Mapping[str, Any]], None]


class Listener:
    """Receive the messages of some topics, and pass them on one by one from one thread."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        url: str,
        exchange: str,
        topics: Sequence[str],
        pool: str,
        take: Take,
        connected: Callable[[str], None],
    ):
        """Store the arguments, without connecting.

        :param url: URL of the broker; empty: the service's own ``transport_url``.
        :param exchange: the exchange of the sending service.
        :param pool: name of the queue. Listeners with the same name share the messages; listeners
            with another name receive their own copies.
        :param take: called with each message. Its errors are logged, and the message is dropped.
        :param connected: called with "" when the listener is connected, else with the reason.
        """
        self._conf = conf
        self._url = url
        self._targets = [oslo_messaging.Target(topic=topic, exchange=exchange) for topic in topics]
        self._pool = pool
        self._take = take
        self._connected = connected
        self._stopping = threading.Event()
        self._guard = threading.Lock()
        self._server: oslo_messaging.MessageHandlingServer | None = None
        self._thread = threading.Thread(target=self._run, name="notifications", daemon=True)

    def start(self) -> None:
        """Start to connect in the background, and return immediately."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Stop within ``timeout`` seconds; messages in progress return to the queue."""
        self._stopping.set()
        with self._guard:
            server, self._server = self._server, None
        if server is None:
            return
        # oslo.messaging waits indefinitely for the broker and for messages in progress.
        closing = threading.Thread(
            target=_close, args=(server,), name="notifications-close", daemon=True
        )
        closing.start()
        closing.join(timeout)

    def _run(self) -> None:
        """Retry until the first connection; afterwards oslo.messaging reconnects."""
        while not self._stopping.is_set():
            try:
                server = self._listen()
            except Exception as error:
                self._connected(str(error) or type(error).__name__)
                self._stopping.wait(_RETRY)
                continue
            with self._guard:
                stopped = self._stopping.is_set()
                self._server = None if stopped else server
            if stopped:
                _close(server)
            else:
                self._connected("")
            return

    def _listen(self) -> oslo_messaging.MessageHandlingServer:
        transport = transport_of(self._conf, self._url)
        hand_over = _HandOver(self._take, self._stopping)
        server = oslo_messaging.notify.listener.NotificationServer(
            transport, self._targets, hand_over, allow_requeue=True, pool=self._pool
        )
        # One worker: messages stay in order, and at most one blocks.
        server.start(override_pool_size=1)
        return server


def transport_of(conf: cfg.ConfigOpts, url: str) -> oslo_messaging.Transport:
    """Return a transport for the notifications of other services, with a small prefetch.

    :raises vmmonitor.model.errors.VmmonitorError: it is not the URL of a broker.
    """
    transports.register_library_options(conf)
    try:
        address = oslo_messaging.TransportURL.parse(conf, url or None)
        if address.transport.startswith("rabbit"):
            # Only for this connection; the option of the same name also affects RPC calls.
            address.query.setdefault("rabbit_qos_prefetch_count", str(PREFETCH))
        return oslo_messaging.get_notification_transport(conf, url=address)
    except (oslo_messaging.InvalidTransportURL, oslo_messaging.DriverLoadFailure) as error:
        raise VmmonitorError(f"it is not the address of a broker: {error}") from error


class _Anything:
    """Endpoint with a method per priority; oslo.messaging derives its subscriptions from them."""

    def info(self, *_: Any) -> None:
        """Do nothing: messages are handled before they reach this method."""

    warn = error = critical = info


class _HandOver(dispatcher.NotificationDispatcher):
    """Accept any message, and decide whether it returns to the queue.

    The library's dispatcher raises for a message without a priority; with ``allow_requeue`` such a
    message would be delivered again indefinitely.
    """

    def __init__(self, take: Take, stopping: threading.Event):
        super().__init__([_Anything()], None)
        self._take = take
        self._stopping = stopping

    def dispatch(self, incoming: Any) -> str:
        """Pass a message on, or return it to the queue while the process stops."""
        if not self._stopping.is_set():
            try:
                self._take(message_of(incoming))
            except Exception:
                LOG.exception("Notification dropped: it could not be handled")
        is_returned = self._stopping.is_set()
        results = dispatcher.NotificationResult
        return str(results.REQUEUE if is_returned else results.HANDLED)


def message_of(incoming: Any) -> dict[str, Any]:
    """Return the parts of a message; each may be missing or have any type."""
    message = incoming.message if isinstance(incoming.message, Mapping) else {}
    parts = ("publisher_id", "event_type", "payload", "message_id", "timestamp")
    return {**{name: message.get(name) for name in parts}, "context": incoming.ctxt}


def _close(server: oslo_messaging.MessageHandlingServer) -> None:
    try:
        server.stop()
        server.wait()
    except Exception:
        LOG.exception("Connection for notifications could not be closed")
