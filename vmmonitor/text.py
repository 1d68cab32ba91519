# SPDX-License-Identifier: Apache-2.0
"""Text from elsewhere made safe to print or to put into a URL, and durations."""

import re
import urllib.parse

#: Unit of a duration -> seconds.
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

_DURATION = re.compile(rf"(\d{{1,9}})([{''.join(UNITS)}])", re.ASCII)


def printable(text: str) -> str:
    """Return a text in which each non-printable character is ``?``.

    Names and messages come from tenants and other services: escape sequences in them must not
    reach a terminal.
    """
    return "".join(character if character.isprintable() else "?" for character in text)


def printable_lines(text: str) -> str:
    """Return a text as ``printable`` does, but keep its line ends."""
    return "\n".join(printable(line) for line in text.split("\n"))


def one_line(text: object, limit: int | None = None) -> str:
    """Return a text on one line: printable characters, with single spaces.

    :param text: a string, or an exception whose message is meant.
    :param limit: maximum number of characters; None for no limit.
    """
    spaced = "".join(each if each.isprintable() else " " for each in str(text))
    return " ".join(spaced.split())[:limit]


def url_path(*parts: str) -> str:
    """Return the path of a URL: each part after a slash, with special characters quoted.

    :raises ValueError: a part is empty, ``.`` or ``..``: HTTP libraries resolve these, quoted or
        not, so that the path would be that of another object.
    """
    for part in parts:
        if part in ("", ".", ".."):
            raise ValueError(f"{part!r} cannot be a part of a URL")
    return "".join(f"/{urllib.parse.quote(part, safe='')}" for part in parts)


def parse_duration(text: str) -> int | None:
    """Return the seconds of a duration such as ``90s``, ``30m``, ``1h``, ``7d`` or ``2w``.

    Returns None if the text is not a duration.
    """
    found = _DURATION.fullmatch(text)
    return int(found[1]) * UNITS[found[2]] if found else None


def format_duration(seconds: float) -> str:
    """Return a duration for a message: in seconds, from 2 minutes in minutes, from 2 hours in
    hours.

    :param seconds: a negative number counts as 0.
    """
    if seconds < 120:
        return f"{max(seconds, 0):.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.0f} hours"
