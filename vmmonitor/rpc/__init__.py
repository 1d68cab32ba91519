# SPDX-License-Identifier: Apache-2.0
"""What agents and engines say to each other, and in which form. Only room that imports
oslo_messaging."""

from oslo_service import backend

# NOTE: must come before anything else of oslo.service, which oslo.messaging imports too;
# otherwise that picks eventlet.
backend.init_backend(backend.BackendType.THREADING)
