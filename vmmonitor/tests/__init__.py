# SPDX-License-Identifier: Apache-2.0
"""Tests: ``unit``, ``functional``, ``live`` and ``openstack``."""

import logging

from vmmonitor import native_threads  # noqa: F401  before anything of oslo's that a test imports

# Deliberate failures in tests log errors; they are not printed, because assertions report the
# real ones.
logging.getLogger().addHandler(logging.NullHandler())
