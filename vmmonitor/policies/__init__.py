# SPDX-License-Identifier: Apache-2.0
"""The place of the oslo.policy rules, one module per noun; they come together with keystone."""


def list_rules() -> list[object]:
    """Return the rules, for oslopolicy-sample-generator: none yet."""
    return []
