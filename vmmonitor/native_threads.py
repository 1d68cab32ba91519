# SPDX-License-Identifier: Apache-2.0
"""oslo.service on native threads. Whoever needs oslo.service takes ``service`` from here.

The backend must be chosen before anything else of oslo.service is imported, which oslo.messaging
does too; otherwise that picks eventlet.
"""

import sys

# NOTE: futurist imports eventlet wherever that is installed (oslo.service still requires it),
# for executors that nobody has here: 17 MiB, a quarter of the agent.
sys.modules.setdefault("eventlet", None)  # type: ignore[arg-type]

from oslo_service import backend  # noqa: E402  only now

backend.init_backend(backend.BackendType.THREADING)

from oslo_service import service  # noqa: E402  only now

__all__ = ("service",)
