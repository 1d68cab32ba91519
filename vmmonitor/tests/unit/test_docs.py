# SPDX-License-Identifier: Apache-2.0
"""The documentation says what is so: its code runs, its files exist."""

import contextlib
import pathlib
import re
import tempfile
import textwrap
import types
import unittest
from collections.abc import Iterator

import vmmonitor
from vmmonitor.rules import policies

CHECKOUT = pathlib.Path(vmmonitor.__file__).parent.parent
DOCS = CHECKOUT / "doc" / "source"

BLOCK = re.compile(
    r"^\.\. code-block:: (?P<language>\w+)\n(?:   :caption: (?P<caption>\S+)\n)?\n"
    r"(?P<body>(?:   .*\n|\n)+)",
    re.MULTILINE,
)
#: What looks like a file of this project.
FILE = re.compile(r"``((?:vmmonitor|tools|etc|doc)/[\w./-]+)``")


def blocks(page: pathlib.Path) -> Iterator[tuple[str, str, str]]:
    """Yield (language, caption, text) of each code block of a page."""
    for found in BLOCK.finditer(page.read_text()):
        yield found["language"], found["caption"] or "", textwrap.dedent(found["body"])


def run(page: pathlib.Path) -> unittest.TestResult:
    """Run the tests that a page shows, with its own code, beside its own files."""
    module = types.ModuleType(page.stem.replace("-", "_"))
    result = unittest.TestResult()
    with tempfile.TemporaryDirectory() as directory, contextlib.chdir(directory):
        for language, caption, text in blocks(page):
            if language == "python":
                exec(compile(text, f"{page.name}: {caption}", "exec"), module.__dict__)
            elif caption:
                pathlib.Path(caption).write_text(text)
        unittest.defaultTestLoader.loadTestsFromModule(module).run(result)
    return result


class TestCode(unittest.TestCase):
    def assert_runs(self, page: str, least: int) -> None:
        result = run(DOCS / "contributor" / page)
        self.assertEqual([], [text for _, text in result.errors + result.failures])
        self.assertGreaterEqual(result.testsRun, least)

    def test_adding_a_source(self):
        self.assert_runs("adding-a-source.rst", 2)

    def test_adding_a_filter(self):
        self.assert_runs("adding-a-filter.rst", 3)

    def test_adding_a_driver(self):
        self.assert_runs("adding-a-driver.rst", 3)

    def test_the_policy_that_uses_the_driver(self):
        page = DOCS / "contributor" / "adding-a-driver.rst"
        [text] = [text for language, _, text in blocks(page) if language == "yaml"]
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(text)
            file.flush()
            policy = policies.load(file.name).get("restart crashed instances")
        assert policy is not None
        self.assertEqual(["acme_command"], [step.driver for step in policy.steps])


class TestPages(unittest.TestCase):
    def test_every_file_that_is_named_exists(self):
        pages = [*DOCS.rglob("*.rst"), *CHECKOUT.glob("*.rst")]
        wrong = [
            f"{page.relative_to(CHECKOUT)}: {name}"
            for page in sorted(pages)
            for name in FILE.findall(page.read_text())
            if not (CHECKOUT / name).exists() and not name.endswith(".sample")
        ]
        self.assertEqual([], wrong)
