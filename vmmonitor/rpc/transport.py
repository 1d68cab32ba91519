# SPDX-License-Identifier: Apache-2.0
"""The message bus: ``rabbit://`` between hosts, ``fake://`` within one process."""

import contextlib
import threading
from collections.abc import Iterator

import oslo_messaging
from oslo_config import cfg
from oslo_log import log
from oslo_messaging._metrics import client as metrics
from oslo_messaging._tracing import client as tracing

from vmmonitor.model.errors import Retriable

LOG = log.getLogger(__name__)

ENGINE_TOPIC = "vmmonitor-engine"
AGENT_TOPIC = "vmmonitor-agent"
EXCHANGE = "vmmonitor"

#: Seconds that a start waits for the broker.
START_TIMEOUT = 2.0

Transport = oslo_messaging.Transport


def new(conf: cfg.ConfigOpts, url: str | None = None) -> oslo_messaging.Transport:
    """Return a transport; it connects when it is first used.

    :param url: instead of the configured ``transport_url``.
    """
    oslo_messaging.set_transport_defaults(EXCHANGE)
    # NOTE: oslo.messaging reads these two groups from every configuration, but registers them
    # on the global one only, and lists them nowhere.
    conf.register_opts(metrics.oslo_messaging_metrics, group="oslo_messaging_metrics")
    conf.register_opts(tracing.oslo_messaging_tracing, group="oslo_messaging_tracing")
    transport = oslo_messaging.get_rpc_transport(conf, url=url)
    if "oslo_messaging_rabbit" in conf:
        # Its own default waits up to 30 s before it looks for a broker that is back.
        conf.set_default("rabbit_interval_max", 5, group="oslo_messaging_rabbit")
    return transport


class Server:
    """Answers calls on a topic, as soon as there is a broker.

    The library's own start waits for the broker without end, and its stop for the start: a
    program that does so itself can neither work nor stop while the broker is away.
    """

    def __init__(
        self, transport: oslo_messaging.Transport, topic: str, host: str, endpoint: object
    ):
        """Connect to nothing yet.

        :param endpoint: has a ``target`` and the methods that may be called.
        """
        target = oslo_messaging.Target(topic=topic, server=host)
        self._server = oslo_messaging.get_rpc_server(transport, target, [endpoint])
        self._listens = False
        self._starting = threading.Thread(target=self._start, name="rpc-start", daemon=True)

    def start(self) -> None:
        """Take calls; returns when that has begun, or the broker is away."""
        self._starting.start()
        self._starting.join(START_TIMEOUT)

    def _start(self) -> None:
        try:
            self._server.start()
            self._listens = True
        except Exception:
            LOG.exception("No calls can be taken")

    def stop(self) -> None:
        """Take no more calls."""
        if self._listens:
            self._server.stop()

    def wait(self) -> None:
        """Wait, after a stop, for the calls that are under way."""
        if self._listens:
            self._server.wait()


@contextlib.contextmanager
def retriable() -> Iterator[None]:
    """Turn whatever keeps a call from being answered into ``errors.Retriable``.

    Also an error that the other side raised: its cause (a database that is away, a version that
    is not there yet) may be gone the next time, and a caller here must never lose an event over
    an answer that it did not understand.
    """
    try:
        yield
    except oslo_messaging.MessagingTimeout as error:
        raise Retriable("no answer in time") from error
    except (oslo_messaging.MessagingException, oslo_messaging.RemoteError, OSError) as error:
        text = str(error).strip().splitlines()
        raise Retriable(text[0] if text else type(error).__name__) from error
