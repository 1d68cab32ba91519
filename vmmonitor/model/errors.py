# SPDX-License-Identifier: Apache-2.0
"""The errors that cross rooms. The docstring is the message."""

from typing import Any


class VmmonitorError(Exception):
    """Something went wrong in vmmonitor"""

    def __init__(self, message: str = "", **facts: Any) -> None:
        """Make the message from the class's docstring and the facts that came along.

        :param message: replaces the docstring.
        :param facts: named values that a caller may want to read again.
        """
        self.facts = facts
        text = message or (self.__doc__ or "").strip()
        if facts:
            text += ": " + ", ".join(f"{name} {value!r}" for name, value in facts.items())
        super().__init__(text)


class Retriable(VmmonitorError):
    """It failed now and may work later"""


class IllegalMove(VmmonitorError):
    """The state table has no such move"""


class Conflict(VmmonitorError):
    """Somebody else changed it first"""


class InvalidRules(VmmonitorError):
    """The rule file is broken"""


class InvalidMessage(VmmonitorError):
    """The message cannot be read"""


class NotFound(VmmonitorError):
    """There is no such thing"""
