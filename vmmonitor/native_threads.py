# SPDX-License-Identifier: Apache-2.0
"""oslo.service on native threads. Whoever needs oslo.service takes ``service`` from here.

The backend must be chosen before anything else of oslo.service is imported, which oslo.messaging
does too; otherwise that picks eventlet.
"""

import warnings

# futurist imports eventlet where it is installed, which oslo.service still sees to; nothing here
# uses it, so its farewell would only puzzle an operator.
warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")

from oslo_service import backend  # noqa: E402  only now

backend.init_backend(backend.BackendType.THREADING)

from oslo_service import service  # noqa: E402  only now

__all__ = ("service",)
