# SPDX-License-Identifier: Apache-2.0
"""Evidence: what was captured on its host when an event occurred, beside the event itself."""

import dataclasses
import hashlib

SCREENSHOT = "screenshot"
CONSOLE = "console"
QEMU_LOG = "qemu_log"
PANIC = "panic"
DISK_ERRORS = "disk_errors"
STATS = "stats"

_PNG = "image/png"
_TEXT = "text/plain"
_JSON = "application/json"

#: Kind -> the type of its content, in the order in which they are captured: what the next reset
#: of the instance wipes out comes first.
CONTENT_TYPES = {
    SCREENSHOT: _PNG,
    PANIC: _JSON,
    DISK_ERRORS: _JSON,
    STATS: _JSON,
    CONSOLE: _TEXT,
    QEMU_LOG: _TEXT,
}
KINDS = tuple(CONTENT_TYPES)
_ENDINGS = {_PNG: "png", _TEXT: "txt", _JSON: "json"}

#: Where evidence is kept, and the name of the attribute by which its event refers to it.
HOST = "host"
ENGINE = "engine"
KEPT = (HOST, ENGINE)
ATTRIBUTE = "evidence"

#: Bytes of one item that cross the bus at most, whatever an agent is configured to.
MAX_BYTES = 4 * 1024 * 1024


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One kind of evidence of one event, or why it is missing.

    :param kind: one of KINDS.
    :param captured_at: microseconds since the epoch, by the host's clock.
    :param content: empty where there is none.
    :param message: why there is none, or what is wrong with it; one sentence for a person.
    """

    kind: str
    captured_at: int
    content: bytes = b""
    message: str = ""

    @property
    def content_type(self) -> str:
        """The content's type, which its kind alone decides."""
        return CONTENT_TYPES[self.kind]

    @property
    def sha256(self) -> str:
        """SHA-256 of the content, in hex."""
        return hashlib.sha256(self.content).hexdigest()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class KeptItem:
    """What the database tells of an item without its content; the fields are as in Item.

    :param size: of the content, in bytes; 0 where there is none.
    """

    kind: str
    content_type: str
    size: int
    sha256: str
    captured_at: int
    message: str


def file_name(kind: str) -> str:
    """Return the name of a kind's file (``screenshot.png``)."""
    return f"{kind}.{_ENDINGS[CONTENT_TYPES[kind]]}"
