# SPDX-License-Identifier: Apache-2.0
"""Listens to what other OpenStack services tell on the message bus."""

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

#: Messages that the broker gives ahead of their acknowledgements. While nothing can be stored
#: this is all that is in memory here, and the rest stays in the queue.
PREFETCH = 50
#: Seconds between two tries to connect.
RETRY = 5.0

#: Takes a message: publisher, event type, payload, context, message id, timestamp. May wait.
Take = Callable[[Mapping[str, Any]], None]


class Listener:
    """Hands over every message of some topics, one after the other, from one thread."""

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
        """Keep what is needed; connect to nothing yet.

        :param url: the broker's address; empty: the service's own ``transport_url``.
        :param exchange: that of the service that tells.
        :param pool: name of the queue of our own. Those who listen with the same name share the
            messages; whoever uses another one, or none, gets a copy of his own.
        :param take: called with each message. What it raises is logged, and never comes again.
        :param connected: called with "" when it listens, and with the reason why it cannot.
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
        """Begin to listen, as soon as there is a broker; return at once."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Take nothing more, at most ``timeout`` seconds; what is under way is given back."""
        self._stopping.set()
        with self._guard:
            server, self._server = self._server, None
        if server is None:
            return
        # oslo.messaging waits for the broker, and for what is under way, without a limit.
        closing = threading.Thread(
            target=_close, args=(server,), name="notifications-close", daemon=True
        )
        closing.start()
        closing.join(timeout)

    def _run(self) -> None:
        """Connect, again and again; from then on oslo.messaging reconnects by itself."""
        while not self._stopping.is_set():
            try:
                server = self._listen()
            except Exception as error:
                self._connected(str(error) or type(error).__name__)
                self._stopping.wait(RETRY)
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
        # One worker: in the order in which they came, and never more than one that waits.
        server.start(override_pool_size=1)
        return server


def transport_of(conf: cfg.ConfigOpts, url: str) -> oslo_messaging.Transport:
    """Return a transport for the notifications of others, which takes few ahead.

    :raises vmmonitor.model.errors.VmmonitorError: the URL is not one of a broker.
    """
    transports.register_library_options(conf)
    try:
        address = oslo_messaging.TransportURL.parse(conf, url or None)
        if address.transport.startswith("rabbit"):
            # For this connection alone; the option of the same name is for the calls too.
            address.query.setdefault("rabbit_qos_prefetch_count", str(PREFETCH))
        return oslo_messaging.get_notification_transport(conf, url=address)
    except (oslo_messaging.InvalidTransportURL, oslo_messaging.DriverLoadFailure) as error:
        raise VmmonitorError(f"this is not the address of a broker: {error}") from error


class _Anything:
    """Has a method for each priority, which is how oslo.messaging learns what to listen to."""

    def info(self, *_: Any) -> None:
        """Stand for all of them; messages are taken before they come here."""

    warn = error = critical = info


class _HandOver(dispatcher.NotificationDispatcher):
    """Takes a message whatever is in it, and says whether it is to be given back.

    The library's own dispatcher looks into the message first, and one without a priority has it
    raise; with ``allow_requeue`` that message would come again for ever.
    """

    def __init__(self, take: Take, stopping: threading.Event):
        super().__init__([_Anything()], None)
        self._take = take
        self._stopping = stopping

    def dispatch(self, incoming: Any) -> str:
        """Hand a message over; while this process stops it is given back, maybe once too often."""
        if not self._stopping.is_set():
            try:
                self._take(message_of(incoming))
            except Exception:
                LOG.exception("A notification could not be taken, and is left out")
        given_back = self._stopping.is_set()
        results = dispatcher.NotificationResult
        return str(results.REQUEUE if given_back else results.HANDLED)


def message_of(incoming: Any) -> dict[str, Any]:
    """Return the parts of a message; each may be missing, or anything."""
    message = incoming.message if isinstance(incoming.message, Mapping) else {}
    parts = ("publisher_id", "event_type", "payload", "message_id", "timestamp")
    return {**{name: message.get(name) for name in parts}, "context": incoming.ctxt}


def _close(server: oslo_messaging.MessageHandlingServer) -> None:
    try:
        server.stop()
        server.wait()
    except Exception:
        LOG.exception("Closing the connection for notifications failed")
