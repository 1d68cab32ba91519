# SPDX-License-Identifier: Apache-2.0
"""Define the errors that packages share. The docstring of a class is its default message."""

from typing import Any


class VmmonitorError(Exception):
    """Something went wrong in vmmonitor"""

    def __init__(self, message: str = "", **facts: Any) -> None:
        """Build the message from the docstring of the class and the facts.

        :param message: replaces the docstring.
        :param facts: named values, added to the message; callers can read them from ``facts``.
        """
        self.facts = facts
        text = message or (self.__doc__ or "").strip()
        if facts:
            text += ": " + ", ".join(f"{name} {_quote(value)}" for name, value in facts.items())
        super().__init__(text)


def _quote(value: Any) -> str:
    """Return the ``repr`` of a value; for a member of a StrEnum, the ``repr`` of its text."""
    return repr(str(value) if isinstance(value, str) else value)


class Retriable(VmmonitorError):
    """It failed now and may work later"""


class IllegalTransition(VmmonitorError):
    """The state table does not have this transition"""


class Conflict(VmmonitorError):
    """Another process changed it first"""


class InvalidRules(VmmonitorError):
    """The rule file is invalid"""


class InvalidMessage(VmmonitorError):
    """The message cannot be read"""


class NotFound(VmmonitorError):
    """Not found"""
