# SPDX-License-Identifier: Apache-2.0
"""What agents and engines say to each other, and in which form. Only room that imports
oslo_messaging."""

from vmmonitor import native_threads  # noqa: F401  before oslo.messaging
