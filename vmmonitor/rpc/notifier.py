# SPDX-License-Identifier: Apache-2.0
"""Send notifications with the drivers that ``[oslo_messaging_notifications]`` names."""

import importlib.metadata
from typing import Any

import oslo_messaging
from oslo_config import cfg

from vmmonitor.model.errors import Retriable, VmmonitorError
from vmmonitor.model.notification import Notification
from vmmonitor.rpc import transport as transports

GROUP = "oslo_messaging_notifications"
_DRIVERS = "oslo.messaging.notify.drivers"


class Notifier:
    """Send notifications one by one, and raise if the broker did not acknowledge one.

    oslo.messaging's notifier only logs the errors of its drivers, and the drivers only log those
    of the broker. This class therefore intercepts the call from the drivers to the transport,
    which returns after the broker's acknowledgement.
    """

    def __init__(self, conf: cfg.ConfigOpts):
        """Load the drivers, without connecting.

        :raises vmmonitor.model.errors.VmmonitorError: the broker's address or the name of a driver
            is invalid.
        """
        transport = _transport(conf)
        self._error: Exception | None = None
        self._send_to_broker = transport._send_notification
        transport._send_notification = self._intercept
        # Without retries: the caller repeats the call while the broker is unreachable.
        self._notifier = oslo_messaging.Notifier(
            transport, f"vmmonitor-engine:{conf.host}", retry=0
        )

    def send(self, notification: Notification) -> None:
        """Send a notification to every topic; return when the broker has acknowledged it.

        :raises vmmonitor.model.errors.Retriable: the broker did not acknowledge it on every topic.
        """
        self._error = None
        send = getattr(self._notifier, notification.priority)
        send({}, notification.event_type, dict(notification.payload))
        if self._error is not None:
            text = str(self._error).strip().splitlines()
            raise Retriable(text[0] if text else type(self._error).__name__)

    def _intercept(self, *args: Any, **kwargs: Any) -> None:
        try:
            self._send_to_broker(*args, **kwargs)
        except Exception as error:
            # Not raised: the driver would log it, with the payload, at each retry.
            self._error = error


def _transport(conf: cfg.ConfigOpts) -> oslo_messaging.Transport:
    oslo_messaging.set_transport_defaults(transports.EXCHANGE)
    transports.register_library_options(conf)
    try:
        transport = oslo_messaging.get_notification_transport(conf)
    except (oslo_messaging.InvalidTransportURL, oslo_messaging.DriverLoadFailure) as error:
        raise VmmonitorError(
            f"[{GROUP}] transport_url is not the address of a broker: {error}"
        ) from error
    conf.set_default("driver", ["messagingv2"], group=GROUP)
    known = {point.name for point in importlib.metadata.entry_points(group=_DRIVERS)}
    if unknown := set(conf[GROUP].driver) - known:
        # oslo.messaging would only log a warning and not send notifications.
        raise VmmonitorError(f"[{GROUP}] driver: not installed: {sorted(unknown)}")
    return transport
