# SPDX-License-Identifier: Apache-2.0
"""Define evidence: data that the agent captures on the host when an event occurs."""

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

#: Kind -> content type, in the order of capturing: data that the next reset of the instance
#: deletes comes first.
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

#: Places where evidence is stored, and the attribute of an event that refers to its evidence.
KEPT_ON_HOST = "host"
ENGINE = "engine"
KEPT = (KEPT_ON_HOST, ENGINE)
ATTRIBUTE = "evidence"

#: Maximum size of one item on the bus, in bytes, independent of the configuration of the agent.
MAX_BYTES = 4 * 1024 * 1024


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One kind of evidence of one event, or the reason why it is missing.

    :param kind: one of KINDS.
    :param captured_at: microseconds since the epoch, by the host's clock.
    :param content: the evidence; empty if it is missing.
    :param message: why the content is missing or incomplete; one sentence for the operator.
    """

    kind: str
    captured_at: int
    content: bytes = b""
    message: str = ""

    @property
    def content_type(self) -> str:
        """The content type of its kind."""
        return CONTENT_TYPES[self.kind]

    @property
    def sha256(self) -> str:
        """SHA-256 of the content, in hex."""
        return hashlib.sha256(self.content).hexdigest()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class KeptItem:
    """A stored item without its content; the fields are those of Item.

    :param size: size of the content, in bytes; 0 if it is missing.
    """

    kind: str
    content_type: str
    size: int
    sha256: str
    captured_at: int
    message: str


def file_name(kind: str) -> str:
    """Return the file name of a kind (``screenshot.png``)."""
    return f"{kind}.{_ENDINGS[CONTENT_TYPES[kind]]}"
