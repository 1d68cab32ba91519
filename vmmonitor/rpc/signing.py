# SPDX-License-Identifier: Apache-2.0
"""Sign calls and answers with the key of a host, and verify their signatures.

The MAC covers the direction, the method, the host, the id of the key, the time, the nonce and the
canonical form of the payload. The stamp of a call is its context; that of an answer is its key
``signature``, and has the nonce of the call. A call has a MAC for every key that its sender holds
for the host, and is verified with the first one that the receiver has, so that keys can be
rotated while messages are on their way. Version history of the signed text:

* vmmonitor-1: first format.
"""

import dataclasses
import enum
import hmac
import json
import os
from collections.abc import Mapping
from typing import Any

from vmmonitor.model.errors import InvalidMessage, Retriable
from vmmonitor.rpc.keys import KeySource

#: Key of the stamp in an answer.
SIGNATURE = "signature"
_FORMAT = "vmmonitor-1"
_NONCE_BYTES = 12
#: Maximum length of each text of a stamp, in characters.
_TEXT_LENGTH = 255
#: Maximum number of MACs in a stamp.
_MAX_MACS = 8


class NotAuthentic(Retriable):
    """The message was not authentic"""


class SignatureMode(enum.StrEnum):
    """The value of ``[rpc] signatures``."""

    OFF = "off"
    LOG = "log"
    REQUIRE = "require"


class MessageKind(enum.StrEnum):
    """Direction of a message. A message is not valid in another direction."""

    CALL_TO_ENGINE = "call to engine"
    ANSWER_OF_ENGINE = "answer of engine"
    CALL_TO_AGENT = "call to agent"
    ANSWER_OF_AGENT = "answer of agent"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Stamp:
    """The signature of a message, with the facts that it covers beside the payload.

    :param host: the host whose key signs the message, in both directions.
    :param sent_at: microseconds since the epoch, by the clock of the engines as computed by the
        sender.
    :param nonce: of the call; an answer repeats it.
    :param macs: key id -> MAC in hexadecimal digits.
    """

    host: str
    sent_at: int
    nonce: str
    macs: Mapping[str, str]


def new_nonce() -> str:
    """Return a value that no other call has."""
    return os.urandom(_NONCE_BYTES).hex()


def sign(
    keys: Mapping[str, bytes],
    kind: MessageKind,
    method: str,
    payload: Mapping[str, Any],
    *,
    host: str,
    sent_at: int,
    nonce: str,
) -> Stamp:
    """Return the stamp of a message.

    :param keys: key id -> key of the host; the stamp has a MAC for each.
    """
    text = _canonical(payload)
    return Stamp(
        host=host,
        sent_at=sent_at,
        nonce=nonce,
        macs={
            key_id: _mac(key, kind, method, host, key_id, sent_at, nonce, text)
            for key_id, key in keys.items()
        },
    )


def verify(
    keys: KeySource, kind: MessageKind, method: str, payload: Mapping[str, Any], stamp: Stamp
) -> str:
    """Return the id of the key that has signed a message.

    :raises NotAuthentic: no key of the host is known, or the message was changed.
    """
    for key_id, mac in stamp.macs.items():
        key = keys.find(stamp.host, key_id)
        if key is None:
            continue
        text = _canonical(payload)
        expected = _mac(key, kind, method, stamp.host, key_id, stamp.sent_at, stamp.nonce, text)
        if not hmac.compare_digest(expected, mac):
            raise NotAuthentic("its MAC is wrong")
        return key_id
    raise NotAuthentic("it is signed with an unknown key")


def write_stamp(stamp: Stamp) -> dict[str, Any]:
    """Return a stamp in wire format."""
    return {
        "host": stamp.host,
        "sent_at": stamp.sent_at,
        "nonce": stamp.nonce,
        "macs": dict(stamp.macs),
    }


def read_stamp(form: Any) -> Stamp:
    """Return a stamp from its wire format.

    :raises NotAuthentic: there is no stamp, or its format is wrong.
    """
    if not isinstance(form, Mapping) or "macs" not in form:
        raise NotAuthentic("it is not signed")
    host, nonce, sent_at, macs = (form.get(key) for key in ("host", "nonce", "sent_at", "macs"))
    valid = (
        _is_text(host)
        and _is_text(nonce)
        and isinstance(sent_at, int)
        and isinstance(macs, Mapping)
        and len(macs) <= _MAX_MACS
        and all(_is_text(key_id) and _is_text(mac) for key_id, mac in macs.items())
    )
    if not valid:
        raise NotAuthentic("its signature has a wrong format")
    assert isinstance(host, str) and isinstance(nonce, str)
    assert isinstance(sent_at, int) and isinstance(macs, Mapping)
    return Stamp(host=host, sent_at=sent_at, nonce=nonce, macs=macs)


def _is_text(value: Any) -> bool:
    return (
        isinstance(value, str)
        and 0 < len(value) <= _TEXT_LENGTH
        and value.isascii()
        and value.isprintable()
    )


def _canonical(payload: Mapping[str, Any]) -> bytes:
    """Return a payload as bytes that both sides compute from equal JSON values.

    :raises vmmonitor.model.errors.InvalidMessage: it is nested too deep.
    """
    try:
        return _ENCODER.encode(payload).encode()
    except RecursionError as error:
        raise InvalidMessage("the message is nested too deep") from error


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), check_circular=False)


def _mac(
    key: bytes,
    kind: MessageKind,
    method: str,
    host: str,
    key_id: str,
    sent_at: int,
    nonce: str,
    text: bytes,
) -> str:
    head = "\n".join((_FORMAT, kind, method, host, key_id, str(sent_at), nonce, ""))
    return hmac.digest(key, head.encode() + text, "sha256").hex()
