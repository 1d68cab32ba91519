# SPDX-License-Identifier: Apache-2.0
"""Tests: ``unit``, ``functional``, ``live`` and ``openstack``."""

import logging

from vmmonitor import native_threads  # noqa: F401  before anything of oslo's that a test imports

# What tests break on purpose is logged as an error: only assertions tell what went wrong.
logging.getLogger().addHandler(logging.NullHandler())
