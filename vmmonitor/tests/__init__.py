# SPDX-License-Identifier: Apache-2.0
"""Tests: ``unit``, ``functional``, ``live`` and ``openstack``."""

import logging

import hypothesis

from vmmonitor import native_threads  # noqa: F401  before anything of oslo's that a test imports

# What tests break on purpose is logged as an error: only assertions tell what went wrong.
logging.getLogger().addHandler(logging.NullHandler())

# How fast a loaded machine makes up examples says nothing of the code.
hypothesis.settings.register_profile(
    "patient",
    parent=hypothesis.settings.default,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("patient")
