# SPDX-License-Identifier: Apache-2.0
"""Define the syntax of identifiers that come from other hosts, services, operators and files.

Identifiers become parts of URLs, log lines, file names, queue names and keys of the database.
Each of the patterns excludes separators, blanks, control characters and everything that is not
ASCII.
"""

import re

#: Canonical form of a UUID, as nova and libvirt write it, without a restriction of the version.
_UUID_PATTERN = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
#: Name of a compute host: what nova accepts, except that the first character is not ``.`` or
#: ``-``, so that a name is neither a relative path nor an option of a command.
HOST_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,254}"
#: Name of a source, type, detail, state or reason.
_WORD_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9_.:+-]{0,63}"

_UUID = re.compile(_UUID_PATTERN)
_HOST = re.compile(HOST_PATTERN)
_WORD = re.compile(_WORD_PATTERN)
_NOT_OF_A_WORD = re.compile(r"[^A-Za-z0-9_.:+-]")
_WORD_LENGTH = 64


def is_uuid(text: str) -> bool:
    """Return whether a text is a UUID in canonical form: 36 characters in lower case."""
    return _UUID.fullmatch(text) is not None


def is_host_name(text: str) -> bool:
    """Return whether a text can be the name of a compute host."""
    return _HOST.fullmatch(text) is not None


def is_word(text: str) -> bool:
    """Return whether a text can be the name of a source, type, detail, state or reason."""
    return _WORD.fullmatch(text) is not None


def to_word(text: str) -> str:
    """Return a text as a word: truncated, with ``_`` in place of other characters.

    An empty text remains empty.
    """
    word = _NOT_OF_A_WORD.sub("_", text[:_WORD_LENGTH])
    return f"_{word[1:]}" if word[:1] in tuple(".:+-") else word
