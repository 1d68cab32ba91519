# SPDX-License-Identifier: Apache-2.0
"""Define columns for text and JSON with characters that every database can store."""

import json
import re
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

#: A text of up to 16 MiB on MySQL, where TEXT is limited to 64 KiB.
LONG_TEXT = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql")


def storable(text: str) -> str:
    """Replace characters that some database cannot store (NUL, lone surrogates) by U+FFFD."""
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _storable_or_null(text: str | None) -> str | None:
    if text is None or text.isascii() and "\x00" not in text:
        return text
    return storable(text)


#: The escape of NUL in JSON, after an even number of backslashes.
JSON_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


class Plain(sa.types.TypeDecorator[str]):
    """A string with storable characters."""

    impl: sa.types.TypeEngine[str] | type[sa.types.TypeEngine[str]] = sa.String
    cache_ok = True

    def bind_processor(self, dialect: sa.Dialect) -> Callable[[str | None], str | None]:
        """Return the function that converts a value. It is called for each value."""
        return _storable_or_null


class LongPlain(Plain):
    """A string of any length with storable characters."""

    impl = LONG_TEXT
    cache_ok = True


def json_text(value: Any) -> str:
    """Return a value as JSON with storable characters."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=dict)
    return storable(JSON_NUL.sub("\\1\ufffd", text) if "\\u0000" in text else text)


class Json(sa.types.TypeDecorator[Any]):
    """A JSON value, stored as text with storable characters."""

    impl = LONG_TEXT
    cache_ok = True

    def bind_processor(self, dialect: sa.Dialect) -> Callable[[Any], str]:
        """Return the function that converts a value to text."""
        return json_text

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Callable[[str], Any]:
        """Return the function that converts a text to its value."""
        return json.loads
