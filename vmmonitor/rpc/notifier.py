# SPDX-License-Identifier: Apache-2.0
"""Sends notifications, by whichever drivers ``[oslo_messaging_notifications]`` names."""

import importlib.metadata
from typing import Any

import oslo_messaging
from oslo_config import cfg

from vmmonitor.model.errors import Retriable, VmmonitorError
from vmmonitor.model.notification import Notification
from vmmonitor.rpc import transport as transports

GROUP = "oslo_messaging_notifications"
DRIVERS = "oslo.messaging.notify.drivers"


class Notifier:
    """Sends one notification after the other, and tells which did not arrive.

    oslo.messaging's notifier logs what a driver raises, and its messaging drivers log what the
    broker says: whoever sends learns nothing. So this listens where the drivers hand over to the
    transport, whose word is the broker's own acknowledgement.
    """

    def __init__(self, conf: cfg.ConfigOpts):
        """Load the drivers; connect to nothing yet.

        :raises vmmonitor.model.errors.VmmonitorError: the broker's address, or a driver's name,
            is none.
        """
        transport = _transport(conf)
        self._refused: Exception | None = None
        self._hand_over = transport._send_notification
        transport._send_notification = self._listen
        # Without retries of its own: a broker that is away is for the caller to wait for.
        self._notifier = oslo_messaging.Notifier(
            transport, f"vmmonitor-engine:{conf.host}", retry=0
        )

    def send(self, notification: Notification) -> None:
        """Send a notification to every topic; returns when the broker has taken it.

        :raises vmmonitor.model.errors.Retriable: it has not, or not on every topic.
        """
        self._refused = None
        tell = getattr(self._notifier, notification.priority)
        tell({}, notification.event_type, dict(notification.payload))
        if self._refused is not None:
            text = str(self._refused).strip().splitlines()
            raise Retriable(text[0] if text else type(self._refused).__name__)

    def _listen(self, *args: Any, **kwargs: Any) -> None:
        try:
            self._hand_over(*args, **kwargs)
        except Exception as error:
            # Not raised: the driver would log it, with the payload, at each try.
            self._refused = error


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
    known = {one.name for one in importlib.metadata.entry_points(group=DRIVERS)}
    if unknown := set(conf[GROUP].driver) - known:
        # The library would warn, and send nothing.
        raise VmmonitorError(f"[{GROUP}] driver names what is not installed: {sorted(unknown)}")
    return transport
