# SPDX-License-Identifier: Apache-2.0
"""The message bus: ``rabbit://`` between hosts, ``fake://`` within one process."""

import contextlib
from collections.abc import Iterator

import oslo_messaging
from oslo_config import cfg
from oslo_messaging._metrics import client as metrics
from oslo_messaging._tracing import client as tracing
from oslo_messaging.rpc import server as rpc_server

from vmmonitor.model.errors import Retriable

ENGINE_TOPIC = "vmmonitor-engine"
AGENT_TOPIC = "vmmonitor-agent"
EXCHANGE = "vmmonitor"

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


def serve(
    transport: oslo_messaging.Transport, topic: str, host: str, endpoint: object
) -> rpc_server.RPCServer:
    """Return a server that answers calls on ``topic``; start() and stop() are the caller's.

    :param endpoint: has a ``target`` and the methods that may be called.
    """
    target = oslo_messaging.Target(topic=topic, server=host)
    return oslo_messaging.get_rpc_server(transport, target, [endpoint])


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
