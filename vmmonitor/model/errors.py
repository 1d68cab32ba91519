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
            text += ": " + ", ".join(f"{name} {_quote(value)}" for name, value in facts.items())
        super().__init__(text)


def _quote(value: Any) -> str:
    """Return a value as Python writes it; a member of a StrEnum as its text."""
    return repr(str(value) if isinstance(value, str) else value)


class Retriable(VmmonitorError):
    """It failed now and may work later"""


class IllegalTransition(VmmonitorError):
    """The state table does not have this transition"""


class Conflict(VmmonitorError):
    """Somebody else changed it first"""


class InvalidRules(VmmonitorError):
    """The rule file is broken"""


class InvalidMessage(VmmonitorError):
    """The message cannot be read"""


class NotFound(VmmonitorError):
    """There is no such thing"""
