# SPDX-License-Identifier: Apache-2.0
"""Conversion of screenshots to PNG: QEMU before 7.1 returns PPM only. Pure."""

import re
import struct
import zlib

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: Header of a PPM file.
PPM_HEADER = re.compile(rb"P6\s+(\d{1,5})\s+(\d{1,5})\s+255\s")
#: Pixels of a line are three bytes each: colour type 2 with 8 bits per sample.
_RGB = (8, 2, 0, 0, 0)


class InvalidScreenshot(ValueError):
    """The data is neither PNG nor PPM, or is incomplete."""


def convert_to_png(data: bytes) -> bytes:
    """Return a screenshot as PNG (ISO/IEC 15948, without filters).

    :raises InvalidScreenshot: the data is neither PNG nor PPM, or is incomplete.
    """
    if data.startswith(PNG_SIGNATURE):
        return data
    header = PPM_HEADER.match(data)
    if header is None:
        raise InvalidScreenshot("the screenshot is neither PNG nor PPM")
    width, height = int(header[1]), int(header[2])
    size = 3 * width
    if not size or not height or len(data) - header.end() != size * height:
        raise InvalidScreenshot("the screenshot is incomplete")
    compressor = zlib.compressobj(6)
    lines = range(header.end(), len(data), size)
    # Line by line, because a copy of the whole would take as much memory as the agent.
    packed = [compressor.compress(b"\0" + data[begin : begin + size]) for begin in lines]
    return b"".join(
        [
            PNG_SIGNATURE,
            _chunk(b"IHDR", struct.pack(">2I5B", width, height, *_RGB)),
            _chunk(b"IDAT", b"".join(packed) + compressor.flush()),
            _chunk(b"IEND", b""),
        ]
    )


def _chunk(name: bytes, data: bytes) -> bytes:
    check = zlib.crc32(name + data)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)
