# SPDX-License-Identifier: Apache-2.0
"""Tests: ``unit``, ``functional`` and ``live``."""

from vmmonitor import native_threads  # noqa: F401  before anything of oslo's that a test imports
