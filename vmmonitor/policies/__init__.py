# SPDX-License-Identifier: Apache-2.0
"""The oslo.policy rules, for oslopolicy-sample-generator (``tox -e genpolicy``)."""


def list_rules() -> list[object]:
    """Return the rules; the API has none while it has no authentication."""
    return []
