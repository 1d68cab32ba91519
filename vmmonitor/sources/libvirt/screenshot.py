# SPDX-License-Identifier: Apache-2.0
"""A screenshot as a PNG file, whatever QEMU made: before 7.1 it knows PPM only. Pure."""

import re
import struct
import zlib

PNG = b"\x89PNG\r\n\x1a\n"
#: What QEMU writes before the pixels.
PPM = re.compile(rb"P6\s+(\d{1,5})\s+(\d{1,5})\s+255\s")
#: Pixels of a line are three bytes each: colour type 2 with 8 bits per sample.
_RGB = (8, 2, 0, 0, 0)


class InvalidScreenshot(ValueError):
    """This is neither PNG nor PPM, or it is not whole."""


def png(data: bytes) -> bytes:
    """Return the picture as PNG (ISO/IEC 15948, without filters).

    :raises NoPicture: it is neither PNG nor PPM.
    """
    if data.startswith(PNG):
        return data
    head = PPM.match(data)
    if head is None:
        raise InvalidScreenshot("the screenshot is neither PNG nor PPM")
    width, height = int(head[1]), int(head[2])
    size = 3 * width
    if not size or not height or len(data) - head.end() != size * height:
        raise InvalidScreenshot("the screenshot is not whole")
    packing = zlib.compressobj(6)
    lines = range(head.end(), len(data), size)
    # Line by line: a copy of the whole would take the room of the agent itself.
    packed = [packing.compress(b"\0" + data[begin : begin + size]) for begin in lines]
    return b"".join(
        [
            PNG,
            _chunk(b"IHDR", struct.pack(">2I5B", width, height, *_RGB)),
            _chunk(b"IDAT", b"".join(packed) + packing.flush()),
            _chunk(b"IEND", b""),
        ]
    )


def _chunk(name: bytes, data: bytes) -> bytes:
    check = zlib.crc32(name + data)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)
