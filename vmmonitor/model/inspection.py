# SPDX-License-Identifier: Apache-2.0
"""Define the state of an instance as its host finds it now."""

import dataclasses

#: State of an instance that libvirt does not have.
ABSENT_STATE = "absent"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Inspection:
    """The state of an instance that the agent of its host finds at the request of an engine.

    :param state: libvirt's state of the instance; ``absent`` if libvirt does not have it, and
        empty if libvirt did not answer.
    :param reason: libvirt's reason for the state.
    :param managed: libvirt has the instance and reports its state.
    :param process: a QEMU process of the instance exists on the host, or may exist because the
        agent cannot see the processes. Only False shows that the instance does not run there.
    :param answers: the instance works as far as the host can see: its QEMU answers, and the agent
        has not found a hang or stall. False if it does not, None if that is unknown.
    """

    state: str
    reason: str
    managed: bool
    process: bool
    answers: bool | None
