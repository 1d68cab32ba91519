# SPDX-License-Identifier: Apache-2.0
"""Define the order to recover an instance that an engine sends to the agent of its host."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RecoveryOrder:
    """An order to recover one instance.

    :param recovery_id: the recovery that the order belongs to.
    :param token: fence token of the recovery. It rises per instance over all recoveries; an agent
        that has accepted an order refuses orders with a lower token.
    :param expires_at: the agent begins nothing afterwards; microseconds since the epoch, engines'
        clock.
    :param timeout: maximum duration on the agent, in seconds.
    :param cause: the newest failure (``liveness.hung/monitor``), which selects the action for an
        instance that libvirt reports as running; may be empty.
    """

    instance_uuid: str
    recovery_id: str
    token: int
    expires_at: int
    timeout: float
    cause: str = ""
