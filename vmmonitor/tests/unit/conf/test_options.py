# SPDX-License-Identifier: Apache-2.0
"""Each option follows the rules of HACKING.rst: what, unit, special values, when, related."""

import os
import pathlib
import re
import tempfile
import unittest
from collections.abc import Iterator
from unittest import mock

from oslo_config import cfg, types

from vmmonitor import conf

NUMBERS = types.Integer | types.Float

#: A number is one of these.
UNIT = re.compile(r"seconds|days|bytes|percentage|number of|port", re.I)
#: A sentence about when to change an option has one of these.
ADVICE = re.compile(
    r"\b(increase|decrease|change|set|use|keep|enable|add|configure) |default value is fine", re.I
)
RELATED = re.compile(r"Related options:(.*)\Z", re.S)
#: Options with one sensible value, or that another part requires.
WITHOUT_ADVICE = {"api.auth_strategy", "api.bind_host", "webhook.url"}
#: Options of libraries in groups of this package.
OF_LIBRARIES = {"nova.timeout"}
#: Their help names options of nova.
ABOUT_NOVA = {"nova.page_size", "nova_notifications.topics"}


def options() -> Iterator[tuple[str, cfg.Opt]]:
    """Yield (group.name, option) of each option of this package."""
    for group, opts in conf.list_opts():
        for opt in opts:
            yield f"{group.name if group else 'DEFAULT'}.{opt.name}", opt


def text(opt: cfg.Opt) -> str:
    """Return the help of an option on one line."""
    return " ".join((opt.help or "").split())


def is_number(opt: cfg.Opt) -> bool:
    """Return whether the value of an option is a number."""
    return isinstance(opt.type, NUMBERS)


class TestGroups(unittest.TestCase):
    def test_group_has_title_and_help(self):
        for group, _ in conf.list_opts()[1:]:
            self.assertTrue(group.title and group.help.strip().endswith("."), group.name)

    def test_group_is_listed_once(self):
        names = [group.name if group else "DEFAULT" for group, _ in conf.list_opts()]
        self.assertEqual(sorted(set(names)), sorted(names))


class TestHelp(unittest.TestCase):
    def assert_each(self, condition, among=lambda opt: True):
        wrong = [name for name, opt in options() if among(opt) and not condition(opt)]
        self.assertEqual([], wrong)

    def test_help_is_a_sentence(self):
        self.assert_each(lambda opt: re.match(r"[A-Z].*\.\Z", text(opt), re.S))

    def test_help_of_number_names_its_unit(self):
        self.assert_each(lambda opt: UNIT.search(text(opt).split(". ")[0]), is_number)

    def test_help_of_number_explains_zero_and_minus_one(self):
        for value in (0, -1):
            self.assert_each(
                lambda opt, value=value: re.search(rf"with {value}\b", text(opt), re.I),
                lambda opt, value=value: (
                    is_number(opt) and not isinstance(opt, cfg.PortOpt) and opt.type.min <= value
                ),
            )

    def test_help_of_text_explains_empty_value(self):
        self.assert_each(
            lambda opt: re.search(r"\b(if|to) empty\b", text(opt), re.I),
            lambda opt: isinstance(opt.type, types.String) and opt.default == "",
        )

    def test_help_explains_missing_default(self):
        self.assert_each(
            lambda opt: re.search(r"if not set|required", text(opt), re.I),
            lambda opt: opt.default is None,
        )

    def test_help_of_number_says_when_to_change_it(self):
        self.assert_each(lambda opt: ADVICE.search(text(opt)), is_number)

    def test_help_of_other_option_says_when_to_change_it(self):
        wrong = [
            name
            for name, opt in options()
            if name not in WITHOUT_ADVICE
            and not ADVICE.search(text(opt))
            and not RELATED.search(text(opt))
        ]
        self.assertEqual([], wrong)

    def test_number_has_minimum(self):
        self.assert_each(lambda opt: opt.type.min is not None, is_number)


class TestReferences(unittest.TestCase):
    """``[group] name`` or, within a group, ``name``."""

    def test_related_options_exist(self):
        names = {name for name, _ in options()}
        for name, opt in options():
            related = RELATED.search(text(opt))
            for word in re.findall(r"``(.+?)``", related[1] if related else ""):
                self.assertIn(self.full_name(name, word), names, name)

    def test_options_of_other_groups_exist(self):
        names = {name for name, _ in options()} | OF_LIBRARIES
        groups = {name.split(".")[0] for name in names}
        for name, opt in options():
            for group, word in re.findall(r"``\[(\w+)\] (\w+)", text(opt)):
                if group in groups and name not in ABOUT_NOVA:
                    self.assertIn(f"{group}.{word}", names, name)

    def full_name(self, name: str, word: str) -> str:
        other = re.fullmatch(r"\[(\w+)\] (\w+)", word)
        if other:
            return f"{other[1]}.{other[2]}"
        return "DEFAULT.state_path" if word == "state_path" else f"{name.split('.')[0]}.{word}"


class TestRegister(unittest.TestCase):
    def test_new_with_files_does_not_read_the_directories_of_the_machine(self):
        with tempfile.TemporaryDirectory() as home:
            directory = pathlib.Path(home, ".vmmonitor", "vmmonitor.conf.d")
            directory.mkdir(parents=True)
            (directory / "host.conf").write_text("[DEFAULT]\nhost = of-the-machine\n")
            with mock.patch.dict(os.environ, HOME=home):
                self.assertEqual("of-the-machine", conf.new([]).host)
                self.assertNotEqual("of-the-machine", conf.new([], files=[]).host)

    def test_new_registers_each_option(self):
        made = conf.new([], files=[])
        for name, opt in options():
            group, _, _ = name.partition(".")
            holder = made if group == "DEFAULT" else made[group]
            self.assertIn(opt.dest, holder, name)
