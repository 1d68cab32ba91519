# SPDX-License-Identifier: Apache-2.0
"""Unit tests: decisions, without any I/O."""

import hypothesis

# A busy machine generates examples slowly, which is not an error of the test.
hypothesis.settings.register_profile(
    "busy_machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy_machine")
