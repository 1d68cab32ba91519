# SPDX-License-Identifier: Apache-2.0
"""Every option says what it is for, and refuses what makes no sense."""

import unittest
from collections.abc import Iterator

from oslo_config import cfg, types

from vmmonitor import conf


def options() -> Iterator[tuple[str, cfg.Opt]]:
    """Yield (group.name, option) of every option of ours."""
    for group, opts in conf.list_opts():
        for opt in opts:
            yield f"{group}.{opt.name}", opt


class TestOptions(unittest.TestCase):
    def test_each_is_explained_in_a_sentence(self):
        wrong = [name for name, opt in options() if not (opt.help or "").strip().endswith(".")]
        self.assertEqual([], wrong)

    def test_numbers_have_a_least_value(self):
        wrong = [
            name
            for name, opt in options()
            if isinstance(opt.type, types.Integer | types.Float) and opt.type.min is None
        ]
        self.assertEqual([], wrong)

    def test_times_and_sizes_name_their_unit(self):
        units = ("second", "days", "bytes", "number", "many times", "port", "directory")
        wrong = [
            name
            for name, opt in options()
            if isinstance(opt.type, types.Integer | types.Float)
            and not any(unit in (opt.help or "").lower() for unit in units)
        ]
        self.assertEqual([], wrong)

    def test_related_options_exist(self):
        names = {name.split(".")[1] for name, _ in options()}
        for name, opt in options():
            _, _, related = (opt.help or "").partition("Related options:")
            for word in related.split("``")[1::2]:
                self.assertIn(word.split("] ")[-1], names, name)
