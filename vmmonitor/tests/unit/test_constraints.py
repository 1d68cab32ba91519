# SPDX-License-Identifier: Apache-2.0
"""The pinned versions fit the requirements and the commit hooks."""

import pathlib
import re
import tomllib
import unittest

import yaml
from packaging.requirements import Requirement

import vmmonitor

CHECKOUT = pathlib.Path(vmmonitor.__file__).parent.parent
#: Commit hooks of .pre-commit-config.yaml by the package that tox -e pep8 runs instead.
HOOKS = {
    "ruff": "https://github.com/astral-sh/ruff-pre-commit",
    "codespell": "https://github.com/codespell-project/codespell",
    "sphinx-lint": "https://github.com/sphinx-contrib/sphinx-lint",
}


def normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lines(name: str) -> list[str]:
    lines = (CHECKOUT / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def read_pins(name: str) -> dict[str, str]:
    return dict(line.split("==") for line in read_lines(name))


def read_runtime_requirements() -> list[str]:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    extras = [one for extra in project["optional-dependencies"].values() for one in extra]
    return [*read_lines("requirements.txt"), *extras]


class TestConstraints(unittest.TestCase):
    def test_constraints_pin_each_requirement_within_its_bounds(self):
        pins = read_pins("constraints.txt")
        lines = read_runtime_requirements()
        for name in ("test-requirements.txt", "doc/requirements.txt", "tools/requirements.txt"):
            lines += read_lines(name)
        for line in lines:
            requirement = Requirement(line)
            with self.subTest(requirement=line):
                pin = pins[normalize(requirement.name)]
                self.assertTrue(requirement.specifier.contains(pin), pin)

    def test_lower_constraints_pin_each_requirement_to_its_lower_bound(self):
        pins = read_pins("lower-constraints.txt")
        for line in [*read_runtime_requirements(), *read_lines("test-requirements.txt")]:
            with self.subTest(requirement=line):
                requirement = Requirement(line)
                self.assertEqual(
                    f">={pins[normalize(requirement.name)]}", str(requirement.specifier)
                )

    def test_commit_hooks_have_the_pinned_versions(self):
        pins = read_pins("constraints.txt")
        config = yaml.safe_load((CHECKOUT / ".pre-commit-config.yaml").read_text())
        hooks = {repository["repo"]: repository["rev"] for repository in config["repos"]}
        for package, repository in HOOKS.items():
            with self.subTest(package=package):
                self.assertEqual(pins[package], hooks[repository].removeprefix("v"))
