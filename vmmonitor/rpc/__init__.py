# SPDX-License-Identifier: Apache-2.0
"""Define the messages of agents and engines, and exchange them over the message bus.

Other packages do not import oslo_messaging.
"""

from vmmonitor import native_threads  # noqa: F401  must precede oslo.messaging
