# SPDX-License-Identifier: Apache-2.0
"""The rule files that apply where the operator has not written any."""

import os

EVENT_FILTERS = "event_filters.yaml"
RECOVERY_POLICIES = "recovery_policies.yaml"
#: The same policies, with steps that call nova.
OPENSTACK_POLICIES = "recovery_policies-openstack.yaml"


def path(name: str) -> str:
    """Return the path of a shipped file.

    :param name: EVENT_FILTERS, RECOVERY_POLICIES or OPENSTACK_POLICIES.
    """
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), name)
