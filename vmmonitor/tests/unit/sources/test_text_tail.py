# SPDX-License-Identifier: Apache-2.0
"""The ends of log files as printable text."""

import os

import fixtures
import testtools

from vmmonitor.sources.text_tail import (
    CaptureUnavailable,
    encode_tail,
    escape_controls,
    read_tail,
)


class TailTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.directory = self.useFixture(fixtures.TempDir()).path
        self.path = os.path.join(self.directory, "log")

    def write(self, content: bytes) -> None:
        with open(self.path, "wb") as file:
            file.write(content)

    def assert_missing(self, text: str) -> None:
        error = self.assertRaises(CaptureUnavailable, read_tail, self.path, 100)
        self.assertIn(text, str(error))

    def test_short_file_is_read_whole(self):
        self.write(b"one\ntwo")
        self.assertEqual("one\ntwo", read_tail(self.path, 100))

    def test_long_file_is_cut_to_its_last_whole_lines(self):
        self.write(b"password=\nsecret\nthree\n")
        self.assertEqual("three\n", read_tail(self.path, 10))
        self.write(b"x" * 1000)
        self.assertEqual("", read_tail(self.path, 10))

    def test_terminal_controls_are_made_visible(self):
        self.write(b"\x1b[31mred\r\nbell\x07 \xff tab\t \xc2\x9b")
        self.assertEqual("^[[31mred\nbell^G \ufffd tab\t \ufffd", read_tail(self.path, 100))

    def test_links_and_special_files_are_not_read(self):
        self.assert_missing("No such file")
        os.symlink("/etc/hostname", self.path)
        self.assert_missing("symbolic links")
        os.unlink(self.path)
        os.mkfifo(self.path)
        self.assert_missing("not a regular file")
        os.unlink(self.path)
        os.mkdir(self.path)
        self.assert_missing("directory")

    def test_invalid_path_has_no_evidence(self):
        self.path = "\0"
        self.assert_missing("null")
        self.path = "x" * 5000
        self.assert_missing("too long")

    def test_encoded_tail_fits_and_is_valid_utf_8(self):
        self.assertEqual("\u2603".encode(), encode_tail("a\u2603\u2603", 5))
        self.assertEqual(b"abc", encode_tail("abc", 5))
        self.assertEqual("\ufffd", escape_controls(b"\xff"))
