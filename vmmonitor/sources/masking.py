# SPDX-License-Identifier: Apache-2.0
"""Masks secrets in texts that are kept as evidence. Pure, in time linear in the text.

Guests write some of these texts, so that every expression here has bounded repetitions. Those of
oslo.utils are unbounded; they are applied only to texts of QEMU and libvirt, in pieces.
"""

import re

from oslo_utils import strutils

MASK = "***"
#: Maximum number of characters that oslo.utils' expressions are applied to at once.
MAX_PIECE = 2048

#: ``data=...`` of QEMU's secret objects, ``key=`` of rbd, ``password=`` of vnc and spice, in both
#: forms of QEMU's command line; and similar output of programs in guests.
NAMED_SECRET = re.compile(
    r"""(?ix)
    ( \b (?: [a-z0-9_-]{0,40} (?: pass(?:word|wd|phrase)? | secret | token | api_?key )
           | data | key )
      ["']? [ ]{0,4} [:=] [ ]{0,4} )
    (?: "[^"\n]{0,4096}" | '[^'\n]{0,4096}' | [^\s"',:;&]{1,4096} )
    """
)
#: ``user:password@`` of a URL.
URL_PASSWORD = re.compile(r"(://[^\s/:@]{1,128}:)[^\s/@]{1,256}(?=@)")


def mask(text: str) -> str:
    """Return a text of any origin with its secrets masked."""
    return URL_PASSWORD.sub(rf"\1{MASK}", NAMED_SECRET.sub(rf"\1{MASK}", text))


def mask_log(text: str) -> str:
    """Return a log of QEMU with the secrets of its command lines masked."""
    return "\n".join(_mask_line(line) for line in mask(text).split("\n"))


def _mask_line(line: str) -> str:
    starts = range(0, len(line) or 1, MAX_PIECE)
    pieces = (line[start : start + MAX_PIECE] for start in starts)
    return "".join(strutils.mask_password(piece, MASK) for piece in pieces)
