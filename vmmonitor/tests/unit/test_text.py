# SPDX-License-Identifier: Apache-2.0
import unittest

from vmmonitor import text


class TextTest(unittest.TestCase):
    def test_printable_control_characters_become_question_marks(self):
        self.assertEqual("web?[31m?1?", text.printable("web\x1b[31m\n1\x9b"))

    def test_printable_lines_keeps_line_ends(self):
        self.assertEqual("one?\n\ntwo", text.printable_lines("one\t\n\ntwo"))

    def test_one_line_folds_white_space(self):
        self.assertEqual("a b c", text.one_line(ValueError(" a\n\tb \x1b c ")))

    def test_one_line_long_text_is_cut(self):
        self.assertEqual("abc", text.one_line("abcdef", limit=3))

    def test_url_path_quotes_each_part(self):
        path = text.url_path("servers", "../os-hypervisors/detail?x=#é")
        self.assertEqual("/servers/..%2Fos-hypervisors%2Fdetail%3Fx%3D%23%C3%A9", path)

    def test_url_path_with_relative_part_raises_value_error(self):
        for part in ("", ".", ".."):
            self.assertRaises(ValueError, text.url_path, "servers", part)

    def test_parse_duration_each_unit_returns_seconds(self):
        found = [text.parse_duration(each) for each in ("90s", "30m", "1h", "7d", "2w")]
        self.assertEqual([90, 1800, 3600, 604_800, 1_209_600], found)

    def test_parse_duration_other_text_returns_none(self):
        for wrong in (
            "",
            "5",
            "s",
            "-1s",
            "1.5h",
            "1h ",
            "1 h",
            "1h30m",
            "9" * 10 + "s",
            "\u0661s",
        ):
            with self.subTest(wrong):
                self.assertIsNone(text.parse_duration(wrong))

    def test_format_duration_chooses_unit(self):
        found = [text.format_duration(each) for each in (-3, 0, 119, 120, 7199, 7200, 86_400)]
        expected = ["0 s", "0 s", "119 s", "2 minutes", "120 minutes", "2 hours", "24 hours"]
        self.assertEqual(expected, found)
