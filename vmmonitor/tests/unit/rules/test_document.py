# SPDX-License-Identifier: Apache-2.0
import hashlib
import os
import unittest.mock

import fixtures
import hypothesis
import yaml
from hypothesis import strategies as st

from vmmonitor.model import errors
from vmmonitor.rules import defaults, document, filters, policies
from vmmonitor.tests.unit.rules import base

STEADY = hypothesis.settings(max_examples=100, deadline=None, derandomize=True, database=None)


class ReadTest(base.RulesTest):
    def value(self, text):
        return document.read(self.file(text)).value

    def test_only_plain_scalars_are_converted(self):
        self.assertEqual(
            {
                "a": True,
                "b": "no",
                "c": "off",
                "d": 5,
                "e": "007",
                "f": 1.5,
                "g": "2026-01-01",
                "h": None,
                "i": "5",
                "j": ".nan",
                "on": [-1, "1e9", "tRue"],
            },
            self.value(
                "{a: true, b: no, c: off, d: 5, e: 007, f: 1.5, g: 2026-01-01, h: ~, i: '5', "
                "j: .nan, on: [-1, 1e9, tRue]}"
            ),
        )

    def test_fraction_keeps_its_notation(self):
        written = self.value("[1.10]")[0]
        self.assertEqual(1.1, written)
        self.assertEqual("1.10", repr(written))

    def test_places_start_at_one(self):
        read = document.read(self.file("a: x\nb:\n- y\n- {c: z}\n"))
        self.assertEqual((1, 4), read.places[("a",)])
        self.assertEqual((3, 3), read.places[("b", 0)])
        self.assertEqual((4, 4), read.keys[("b", 1, "c")])

    def test_checksum_covers_the_bytes_of_the_file(self):
        content = b"\xef\xbb\xbfa: \xc3\xa9\r\n"
        read = document.read(self.file(content))
        self.assertEqual(hashlib.sha256(content).hexdigest(), read.checksum)
        self.assertEqual({"a": "é"}, read.value)

    def test_python_parser_reads_the_same_as_libyaml(self):
        path = defaults.path(defaults.EVENT_FILTERS)
        fast = document.read(path)
        with unittest.mock.patch.object(document, "_PARSER", yaml.SafeLoader):
            self.assertEqual(fast, document.read(path))


class RefuseTest(base.RulesTest):
    def refused(self, content):
        lines = self.refusal(document.read, content)
        self.assertEqual(1, len(lines), lines)
        return lines[0]

    def test_syntax_error_is_refused(self):
        self.assertIn("2:1: invalid YAML: while parsing a flow", self.refused("a: [\n"))

    def test_empty_file_is_refused(self):
        for content in ("", "# only a comment\n", "---\n", "~"):
            self.assertEqual("the file is empty", self.refused(content))

    def test_file_that_is_not_utf8_is_refused(self):
        self.assertEqual("2:4: the file is not UTF-8 text", self.refused(b"a: b\nc: \xff\n"))

    def test_control_character_is_refused(self):
        self.assertEqual(
            "2:3: control characters are not allowed (U+0007)", self.refused("a: b\nc:\a\n")
        )

    def test_duplicate_keys_are_refused(self):
        self.assertEqual(
            [
                "3:1: 'a' is a duplicate key, first used on line 1",
                "4:11: 'd' is a duplicate key, first used on line 4",
            ],
            self.refusal(document.read, "a: 1\nb: 2\na: 3\nc: {d: 1, d: 2}\n"),
        )

    def test_alias_and_tag_are_refused(self):
        for content, place in (
            ("a: &x [1]\n", "1:4"),
            ("a: *x\n", "1:4"),
            ("&x a: 1\n", "1:1"),
            ("a: 1\n*x : 2\n", "2:1"),
        ):
            self.assertIn(f"{place}: anchors and aliases", self.refused(content))
        for content in ("a: !!python/object:os.system x\n", "a: !x y\n", "a: {!= : b}\n"):
            self.assertIn("tags (words after !) are not allowed", self.refused(content))

    def test_nested_aliases_are_refused(self):
        lines = ["a0: &a0 [lol, lol]"]
        lines += [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40)]
        self.assertIn("anchors and aliases", self.refused("\n".join(lines)))

    def test_too_deep_nesting_is_refused(self):
        self.assertIn("nested more than 20 levels deep", self.refused("[" * 500_000))
        self.assertIn("nested more than 20 levels deep", self.refused("- " * 500_000))

    def test_second_document_is_refused(self):
        self.assertEqual(
            "2:1: only one document is allowed; a second one begins here",
            self.refused("a: 1\n---\nb: 2\n"),
        )

    def test_list_as_a_key_is_refused(self):
        self.assertIn("a key must be a word", self.refused("? [a]\n: 1\n"))

    def test_too_large_file_is_refused(self):
        fits = "a: " + "x" * (document.MAX_FILE_BYTES - 3)
        self.assertEqual(
            document.MAX_FILE_BYTES - 3, len(document.read(self.file(fits)).value["a"])
        )
        self.assertIn("larger than 1048576 bytes", self.refused(fits + "x"))

    def test_path_without_a_regular_file_is_refused(self):
        directory = self.useFixture(fixtures.TempDir()).path
        fifo = os.path.join(directory, "fifo")
        os.mkfifo(fifo)
        for path, reason in (
            (directory, "the path is a directory, not a file"),
            (fifo, "the path is not a regular file"),
            ("/dev/zero", "the path is not a regular file"),
            (os.path.join(directory, "missing"), "cannot read the file: No such file"),
            ("nul\0", "cannot read the file: "),
        ):
            error = self.assertRaises(errors.InvalidRules, document.read, path)
            self.assertIn(f"{path}: {reason}", str(error))

    def test_unreadable_file_is_refused(self):
        path = self.file("a: 1")
        with unittest.mock.patch("builtins.open", side_effect=PermissionError(13, "Denied")):
            error = self.assertRaises(errors.InvalidRules, document.read, path)
        self.assertEqual(f"{path}: cannot read the file: Denied", str(error))


PIECES = [*"{}[]:-,#&*!|>'\"%@`?~= \n\t", "\n- ", ": ", "&a ", "*a", "!!set ", "<<: ", "---\n"]
PIECES += [
    "rules",
    "match",
    "=~",
    "in",
    "0",
    "1.5",
    "null",
    "\x00",
    "\x85",
    "\ufeff",
    "é",
    "[" * 99,
]


class HostileTest(base.RulesTest):
    """Any content of a file is read, or refused with a reason."""

    def try_both(self, content: bytes):
        path = base.write(content)
        try:
            for load in (filters.load, policies.load):
                try:
                    load(path)
                except errors.InvalidRules as error:
                    self.assertTrue(str(error).startswith(f"{path}:"), error)
                    self.assertLessEqual(len(str(error).splitlines()), document.MAX_PROBLEMS + 1)
        finally:
            os.remove(path)

    @STEADY
    @hypothesis.given(st.binary(max_size=300))
    def test_any_bytes_are_read_or_refused(self, content):
        self.try_both(content)

    @STEADY
    @hypothesis.given(st.lists(st.sampled_from(PIECES), max_size=40))
    def test_any_yaml_fragments_are_read_or_refused(self, pieces):
        self.try_both("".join(pieces).encode())

    @STEADY
    @hypothesis.given(st.data())
    def test_damaged_shipped_file_is_read_or_refused(self, data):
        name = data.draw(st.sampled_from([defaults.EVENT_FILTERS, defaults.RECOVERY_POLICIES]))
        with open(defaults.path(name), encoding="utf-8") as file:
            text = file.read()
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(text)))
            gone = data.draw(st.integers(0, 20))
            text = text[:at] + data.draw(st.sampled_from(PIECES)) + text[at + gone :]
        self.try_both(text.encode())
