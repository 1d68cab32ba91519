# SPDX-License-Identifier: Apache-2.0
"""Columns for text and JSON that every database can store, whatever is in them."""

import json
import re
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

#: Room for 16 MiB on MySQL, whose TEXT ends at 64 KiB.
LONG_TEXT = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql")


def storable(text: str) -> str:
    """Return the text with U+FFFD for what some database cannot store: NUL, half surrogates."""
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _storable_or_null(text: str | None) -> str | None:
    if text is None or text.isascii() and "\x00" not in text:
        return text
    return storable(text)


#: NUL as JSON writes it, after an even number of backslashes.
JSON_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


class Plain(sa.types.TypeDecorator[str]):
    """A string, made storable."""

    impl: sa.types.TypeEngine[str] | type[sa.types.TypeEngine[str]] = sa.String
    cache_ok = True

    def bind_processor(self, dialect: sa.Dialect) -> Callable[[str | None], str | None]:
        """Return what makes a value storable; called for each of millions of values."""
        return _storable_or_null


class LongPlain(Plain):
    """A string of any length, made storable."""

    impl = LONG_TEXT


def json_text(value: Any) -> str:
    """Return a value as JSON, its strings made storable."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=dict)
    return storable(JSON_NUL.sub("\\1\ufffd", text) if "\\u0000" in text else text)


class Json(sa.types.TypeDecorator[Any]):
    """A value of JSON, as text, its strings made storable."""

    impl = LONG_TEXT
    cache_ok = True

    def bind_processor(self, dialect: sa.Dialect) -> Callable[[Any], str]:
        """Return what makes a value into text."""
        return json_text

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Callable[[str], Any]:
        """Return what makes a text into its value."""
        return json.loads
