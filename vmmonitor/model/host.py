# SPDX-License-Identifier: Apache-2.0
"""Describe the registered hosts."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RegisteredHost:
    """A host that an operator registered.

    :param added_at: microseconds since the epoch, engines' clock.
    :param issued_key: id of the newest key that was issued to its agent; empty if there is none.
    :param used_key: id of the key that its agent used last; empty if its messages are not signed.
    :param agent_state: state of its agent; empty if it has never reported.
    """

    host: str
    added_at: int
    issued_key: str
    used_key: str
    agent_state: str
