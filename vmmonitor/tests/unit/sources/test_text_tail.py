# SPDX-License-Identifier: Apache-2.0
"""Files' ends, and calls that may hang."""

import os
import threading

import fixtures
import testtools

from vmmonitor.sources.text_tail import Calls, CaptureUnavailable, fitted, printable, tail

PATIENCE = 10.0


class TailTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.directory = self.useFixture(fixtures.TempDir()).path
        self.path = os.path.join(self.directory, "log")

    def write(self, content: bytes) -> None:
        with open(self.path, "wb") as file:
            file.write(content)

    def assert_missing(self, words: str) -> None:
        error = self.assertRaises(CaptureUnavailable, tail, self.path, 100)
        self.assertIn(words, str(error))

    def test_a_short_file_is_whole(self):
        self.write(b"one\ntwo")
        self.assertEqual("one\ntwo", tail(self.path, 100))

    def test_of_a_long_one_the_last_whole_lines(self):
        self.write(b"password=\nsecret\nthree\n")
        self.assertEqual("three\n", tail(self.path, 10))
        self.write(b"x" * 1000)
        self.assertEqual("", tail(self.path, 10))

    def test_it_commands_no_terminal(self):
        self.write(b"\x1b[31mred\r\nbell\x07 \xff tab\t \xc2\x9b")
        self.assertEqual("^[[31mred\nbell^G \ufffd tab\t \ufffd", tail(self.path, 100))

    def test_only_regular_files_are_read_and_no_link_is_followed(self):
        self.assert_missing("No such file")
        os.symlink("/etc/hostname", self.path)
        self.assert_missing("symbolic links")
        os.unlink(self.path)
        os.mkfifo(self.path)
        self.assert_missing("not a regular file")
        os.unlink(self.path)
        os.mkdir(self.path)
        self.assert_missing("directory")

    def test_a_path_that_none_can_be(self):
        self.path = "\0"
        self.assert_missing("null")
        self.path = "x" * 5000
        self.assert_missing("too long")

    def test_what_is_kept_fits_and_is_utf_8(self):
        self.assertEqual("\u2603".encode(), fitted("a\u2603\u2603", 5))
        self.assertEqual(b"abc", fitted("abc", 5))
        self.assertEqual("\ufffd", printable(b"\xff"))


class CallsTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.calls = Calls(2)
        self.over = threading.Event()
        self.addCleanup(self.over.set)

    def hang(self) -> None:
        self.assertRaises(CaptureUnavailable, self.calls.call, "hang", self.over.wait, 0.01)

    def test_what_is_returned_or_raised(self):
        self.assertEqual(3, self.calls.call("x", lambda: 3, PATIENCE))
        for error in (OSError, TimeoutError, CaptureUnavailable):

            def fail(error=error):
                raise error("no")

            self.assertRaises(error, self.calls.call, "x", fail, PATIENCE)

    def test_few_may_hang_and_then_nothing_more_is_tried(self):
        self.hang()
        self.assertEqual(3, self.calls.call("x", lambda: 3, PATIENCE))
        self.hang()
        error = self.assertRaises(CaptureUnavailable, self.calls.call, "x", lambda: 3, PATIENCE)
        self.assertIn("hang", str(error))
        self.over.set()
        for thread in threading.enumerate():
            if thread.name == "hang":
                thread.join(PATIENCE)
        self.assertEqual(3, self.calls.call("x", lambda: 3, PATIENCE))
