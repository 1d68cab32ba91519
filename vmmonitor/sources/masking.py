# SPDX-License-Identifier: Apache-2.0
"""Takes secrets out of texts that are kept. Pure, and linear in the length of the text.

A regular expression that takes for ever on some text would stop the whole agent, and guests write
some of these texts: so each expression here has bounded repetitions, and oslo.utils', which have
not, see only texts that QEMU and libvirt wrote, in pieces.
"""

import re

from oslo_utils import strutils

MASK = "***"
#: Characters of a line that oslo.utils' expressions see at once.
PIECE = 2048

#: ``data=...`` of QEMU's secret objects, ``key=`` of rbd, ``password=`` of vnc and spice, in
#: either of the forms of QEMU's command line; and what programs in guests print of the kind.
NAMED = re.compile(
    r"""(?ix)
    ( \b (?: [a-z0-9_-]{0,40} (?: pass(?:word|wd|phrase)? | secret | token | api_?key )
           | data | key )
      ["']? [ ]{0,4} [:=] [ ]{0,4} )
    (?: "[^"\n]{0,4096}" | '[^'\n]{0,4096}' | [^\s"',:;&]{1,4096} )
    """
)
#: ``user:password@`` of a URL.
IN_URL = re.compile(r"(://[^\s/:@]{1,128}:)[^\s/@]{1,256}(?=@)")


def mask(text: str) -> str:
    """Return the text without what looks like a secret; whoever wrote it."""
    return IN_URL.sub(rf"\1{MASK}", NAMED.sub(rf"\1{MASK}", text))


def mask_log(text: str) -> str:
    """Return the text of one of QEMU's logs without the secrets of its command lines."""
    return "\n".join(_masked_line(line) for line in mask(text).split("\n"))


def _masked_line(line: str) -> str:
    pieces = (line[begin : begin + PIECE] for begin in range(0, len(line) or 1, PIECE))
    return "".join(strutils.mask_password(piece, MASK) for piece in pieces)
