# SPDX-License-Identifier: Apache-2.0
"""Connect to the message bus: ``rabbit://`` between hosts, ``fake://`` within one process."""

import concurrent.futures
import contextlib
import importlib
import threading
from collections.abc import Callable, Iterator

import oslo_messaging
from oslo_config import cfg
from oslo_log import log
from oslo_messaging._drivers import impl_fake
from oslo_messaging.rpc import server as rpc_server

from vmmonitor.model.errors import Retriable, VmmonitorError
from vmmonitor.rpc.dispatch import GuardedDispatcher
from vmmonitor.rpc.guard import CallGuard, OpenGuard

LOG = log.getLogger(__name__)

ENGINE_TOPIC = "vmmonitor-engine"
AGENT_TOPIC = "vmmonitor-agent"
EXCHANGE = "vmmonitor"
#: Time, in seconds, that a start waits for the broker; afterwards it continues in the background.
START_TIMEOUT = 5

#: Modules of oslo.messaging with options that it does not list, by their group.
UNLISTED_OPTIONS = {
    "oslo_messaging_metrics": "oslo_messaging._metrics.client",
    "oslo_messaging_tracing": "oslo_messaging._tracing.client",
}

Transport = oslo_messaging.Transport


class Unsupported(Retriable):
    """The receiver has an older version that does not have this call"""


def new(conf: cfg.ConfigOpts, url: str | None = None) -> oslo_messaging.Transport:
    """Return a transport that connects at its first use.

    :param url: replaces the configured ``transport_url``.
    :raises vmmonitor.model.errors.VmmonitorError: the URL is not the URL of a broker.
    """
    oslo_messaging.set_transport_defaults(EXCHANGE)
    register_library_options(conf)
    try:
        transport = oslo_messaging.get_rpc_transport(conf, url=url)
    except (oslo_messaging.InvalidTransportURL, oslo_messaging.DriverLoadFailure) as error:
        raise VmmonitorError(f"transport_url is not the address of a broker: {error}") from error
    if "oslo_messaging_rabbit" in conf:
        # The default of the library waits up to 30 s before it reconnects.
        conf.set_default("rabbit_interval_max", 5, group="oslo_messaging_rabbit")
    return transport


def register_library_options(conf: cfg.ConfigOpts) -> None:
    """Register the options that oslo.messaging reads from every configuration.

    oslo.messaging registers them on the global configuration only, and does not list them.
    Versions before 18.3 have no tracing.
    """
    for group, module in UNLISTED_OPTIONS.items():
        with contextlib.suppress(ModuleNotFoundError):
            conf.register_opts(getattr(importlib.import_module(module), group), group=group)


class Server:
    """Answers calls; its start and its stop take a bounded time.

    oslo.messaging's server waits indefinitely for an unreachable broker, at start and at stop.
    """

    def __init__(self, server: rpc_server.RPCServer):
        """Wrap a server of oslo.messaging, without starting it."""
        self._server = server
        self._listening: concurrent.futures.Future[None] | None = None

    def start(self) -> None:
        """Start to answer calls, as soon as the broker is reachable."""
        self._listening = _begin(self._server.start)
        try:
            self._listening.result(START_TIMEOUT)
        except concurrent.futures.TimeoutError:
            LOG.warning(
                "Message broker is not reachable: %s; connecting is repeated", self._brokers()
            )

    def stop(self, timeout: float) -> None:
        """Accept no further calls, and wait for running ones for at most ``timeout`` seconds."""
        if self._listening is None or not self._listening.done():
            return
        try:
            _begin(self._stop).result(timeout)
        except concurrent.futures.TimeoutError:
            LOG.warning("Running RPC calls did not end within %g s", timeout)

    def _stop(self) -> None:
        self._server.stop()
        self._server.wait()

    def _brokers(self) -> str:
        hosts = oslo_messaging.TransportURL.parse(self._server.conf).hosts
        places = [f"{host.hostname}:{host.port or 5672}" for host in hosts]
        return ", ".join(places) or "localhost:5672"


def _begin(call: Callable[[], None]) -> "concurrent.futures.Future[None]":
    """Make a call that may hang, in a daemon thread; return the future of its result."""
    future: concurrent.futures.Future[None] = concurrent.futures.Future()

    def run() -> None:
        try:
            call()
            future.set_result(None)
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, name="rpc-server", daemon=True).start()
    return future


def serve(
    transport: oslo_messaging.Transport,
    topic: str,
    host: str,
    endpoint: object,
    guard: CallGuard | None = None,
) -> Server:
    """Return a server that answers calls on ``topic``; the caller starts and stops it.

    :param endpoint: has a ``target``, and ``exposed`` methods that may be called.
    :param guard: authenticates the calls; by default each call is carried out.
    """
    target = oslo_messaging.Target(topic=topic, server=host)
    dispatcher = GuardedDispatcher(endpoint, guard or OpenGuard())
    return Server(rpc_server.RPCServer(transport, target, dispatcher))


def configured_vhost(conf: cfg.ConfigOpts) -> str:
    """Return the virtual host in ``transport_url``."""
    return oslo_messaging.TransportURL.parse(conf).virtual_host or "/"


def is_in_process(transport: oslo_messaging.Transport) -> bool:
    """Return whether only this process can send messages on a transport."""
    return isinstance(transport._driver, impl_fake.FakeDriver)


@contextlib.contextmanager
def retriable() -> Iterator[None]:
    """Convert each error of a call into ``errors.Retriable``.

    This includes errors that the receiver raised. Their cause (an unreachable database, an older
    version) may be temporary, and a caller must not lose an event because of an unknown answer.

    :raises Unsupported: the receiver does not have this call.
    """
    try:
        yield
    except oslo_messaging.MessagingTimeout as error:
        raise Retriable("timeout: no answer") from error
    except Exception as error:
        # A remote error has the sentence of the receiver as its value.
        text = str(getattr(error, "value", None) or error).strip().splitlines()
        if getattr(error, "exc_type", type(error).__name__) == "UnsupportedVersion":
            raise Unsupported from error
        raise Retriable(text[0] if text else type(error).__name__) from error
