# SPDX-License-Identifier: Apache-2.0
"""Which files are read, and how a screenshot becomes a PNG."""

import struct
import unittest
import zlib
from unittest import mock

from vmmonitor.sources.libvirt import evidence, screenshot
from vmmonitor.sources.text_tail import CaptureUnavailable

DOMAIN = "<domain><devices>{}</devices></domain>"
#: What the definition has -> the file that is read; None: there is none.
CONSOLES = {
    "<serial type='file'><source path='/a'/></serial>": "/a",
    "<serial type='pty'><source path='/dev/pts/3'/></serial>": None,
    "<serial type='unix'><source path='/s'/><log file='/b' append='off'/></serial>": "/b",
    "<console type='file'><source path='/a'/></console>": "/a",
    "<serial type='pty'/><serial type='file'><source path='/c'/></serial>": "/c",
    "<serial type='file'><source path='relative'/></serial>": None,
    "<disk><source file='/d'/></disk>": None,
    "": None,
}
HOSTILE = (
    "",
    "<domain",
    "<!DOCTYPE d [<!ENTITY e SYSTEM 'file:///etc/shadow'>]>"
    "<domain><devices><serial type='file'><source path='&e;'/></serial></devices></domain>",
)


class FilesTest(unittest.TestCase):
    def test_the_console_is_where_the_definition_says(self):
        for devices, path in CONSOLES.items():
            if path:
                self.assertEqual(path, evidence.find_console_log(DOMAIN.format(devices)))
            else:
                with self.assertRaises(CaptureUnavailable):
                    evidence.find_console_log(DOMAIN.format(devices))

    def test_a_definition_that_cannot_be_read_names_no_file(self):
        for definition in HOSTILE:
            with self.assertRaises(CaptureUnavailable):
                evidence.find_console_log(definition)

    def test_a_domains_name_leads_nowhere_else(self):
        self.assertEqual("instance-1.log", evidence.log_file_name("instance-1"))
        self.assertEqual("...log", evidence.log_file_name(".."))
        for name in ("", "/etc/shadow", "../x", "a\0b"):
            with self.assertRaises(CaptureUnavailable):
                evidence.log_file_name(name)

    def test_the_logs_are_where_this_libvirt_has_them(self):
        for uri in ("qemu:///system", "qemu+tls://host/system", "qemu:///system?socket=/session"):
            self.assertEqual("/var/log/libvirt/qemu", evidence.find_log_directory(uri))
        with mock.patch.dict("os.environ", XDG_CACHE_HOME="/c"):
            self.assertEqual(
                "/c/libvirt/qemu/log",
                evidence.find_log_directory("qemu+unix:///session?socket=/s"),
            )


class PictureTest(unittest.TestCase):
    PIXELS = bytes(range(2 * 3 * 3))

    def test_a_png_stays_one(self):
        self.assertEqual(
            screenshot.PNG_SIGNATURE + b"x",
            screenshot.convert_to_png(screenshot.PNG_SIGNATURE + b"x"),
        )

    def test_a_ppm_becomes_one(self):
        made = screenshot.convert_to_png(b"P6\n2 3\n255\n" + self.PIXELS)
        self.assertTrue(made.startswith(screenshot.PNG_SIGNATURE))
        chunks, rest = {}, made[len(screenshot.PNG_SIGNATURE) :]
        while rest:
            size, name = struct.unpack(">I4s", rest[:8])
            chunks[name] = rest[8 : 8 + size]
            self.assertEqual(
                zlib.crc32(name + chunks[name]), *struct.unpack(">I", rest[8 + size : 12 + size])
            )
            rest = rest[12 + size :]
        self.assertEqual([b"IHDR", b"IDAT", b"IEND"], list(chunks))
        self.assertEqual((2, 3, 8, 2, 0, 0, 0), struct.unpack(">2I5B", chunks[b"IHDR"]))
        lines = [b"\0" + self.PIXELS[at : at + 6] for at in (0, 6, 12)]
        self.assertEqual(b"".join(lines), zlib.decompress(chunks[b"IDAT"]))

    def test_whatever_else_is_none(self):
        for data in (b"", b"GIF89a", b"P6\n2 3\n255\n" + self.PIXELS[:-1], b"P6\n0 0\n255\n"):
            with self.assertRaises(screenshot.InvalidScreenshot):
                screenshot.convert_to_png(data)
