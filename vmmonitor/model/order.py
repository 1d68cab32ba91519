# SPDX-License-Identifier: Apache-2.0
"""Define the orders about an instance that an engine sends to the agent of its host."""

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


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StartProhibition:
    """An order not to start an instance any longer, before it is started on another host.

    :param recovery_id: the recovery that starts the instance elsewhere.
    :param token: fence token of that recovery: the agent then refuses every order with a lower or
        an equal token, also after a restart.
    :param timeout: maximum duration on the agent, in seconds.
    """

    instance_uuid: str
    recovery_id: str
    token: int
    timeout: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ProhibitionAnswer:
    """The answer of an agent to a StartProhibition.

    :param accepted: no process of the instance exists on the host, and the agent starts none.
    :param reason: why it is not accepted; empty if it is.
    """

    accepted: bool
    reason: str = ""
