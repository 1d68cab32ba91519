# SPDX-License-Identifier: Apache-2.0
"""Select the threading backend of oslo.service. Import ``service`` from this module.

The backend must be selected before any other import of oslo.service, including the import in
oslo.messaging. Otherwise oslo.service selects eventlet.
"""

import sys

# NOTE: futurist imports eventlet if it is installed (oslo.service still requires it), for
# executors that vmmonitor does not use. This saves 17 MiB, a quarter of the agent.
sys.modules.setdefault("eventlet", None)  # type: ignore[arg-type]

from oslo_service import backend  # noqa: E402  only now

backend.init_backend(backend.BackendType.THREADING)

from oslo_service import service  # noqa: E402  only now

__all__ = ("service",)
