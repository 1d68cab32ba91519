# SPDX-License-Identifier: Apache-2.0
"""Test the code, the files and the figures that the documentation shows."""

import contextlib
import json
import pathlib
import re
import tempfile
import textwrap
import types
import unittest
from collections.abc import Iterator

import yaml

import vmmonitor
from vmmonitor.drivers.mistral import MistralDriver, workflow_inputs
from vmmonitor.rules import policies
from vmmonitor.testing import builders
from vmmonitor.tests.bench import figures

CHECKOUT = pathlib.Path(vmmonitor.__file__).parent.parent
DOCS = CHECKOUT / "doc" / "source"

BLOCK = re.compile(
    r"^\.\. code-block:: (?P<language>\w+)\n(?:   :caption: (?P<caption>\S+)\n)?\n"
    r"(?P<body>(?:   .*\n|\n)+)",
    re.MULTILINE,
)
#: A path of this project, other than a build result.
FILE = re.compile(r"``(?!doc/build)((?:vmmonitor|tools|etc|doc)/[\w./-]+)``")


def blocks(page: pathlib.Path) -> Iterator[tuple[str, str, str]]:
    """Yield (language, caption, text) of each code block of a page."""
    for found in BLOCK.finditer(page.read_text()):
        yield found["language"], found["caption"] or "", textwrap.dedent(found["body"])


def run(page: pathlib.Path) -> unittest.TestResult:
    """Run the tests that a page shows, with its code and its files."""
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

    def test_source_page_example_passes(self):
        self.assert_runs("adding-a-source.rst", 2)

    def test_filter_page_example_passes(self):
        self.assert_runs("adding-a-filter.rst", 3)

    def test_driver_page_example_passes(self):
        self.assert_runs("adding-a-driver.rst", 3)

    def test_policy_of_example_driver_loads(self):
        page = DOCS / "contributor" / "adding-a-driver.rst"
        [text] = [text for language, _, text in blocks(page) if language == "yaml"]
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(text)
            file.flush()
            policy = policies.load(file.name).get("restart crashed instances")
        assert policy is not None
        self.assertEqual(["acme_command"], [step.driver for step in policy.steps])


class TestDrivers(unittest.TestCase):
    """Compare the pages of masakari and mistral with the drivers."""

    def shown(self, driver: str) -> list[str]:
        page = DOCS / "admin" / f"driver-{driver}.rst"
        return [text for language, _, text in blocks(page) if language == "yaml"]

    def check(self, step: policies.PolicyStep) -> None:
        if step.driver == "mistral":
            MistralDriver.check_options(step.options)

    def test_policies_of_driver_pages_load(self):
        for driver in ("masakari", "mistral"):
            with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
                file.write(self.shown(driver)[0])
                file.flush()
                loaded = policies.load(file.name, self.check)
            steps = [step.driver for row in loaded.rows for step in row.value.steps]
            self.assertEqual([driver, "nova"], steps)

    def test_workflow_declares_known_inputs(self):
        workflow = yaml.safe_load(self.shown("mistral")[1])["vmmonitor_reboot"]
        names = [next(iter(one)) if isinstance(one, dict) else one for one in workflow["input"]]
        self.assertEqual(set(), set(names) - set(workflow_inputs(builders.request())))

    def test_page_describes_every_workflow_input(self):
        page = (DOCS / "admin" / "driver-mistral.rst").read_text()
        given = workflow_inputs(builders.request())
        names = {*given, *given["vmmonitor"], *given["vmmonitor"]["incident"]}
        names |= {*given["vmmonitor"]["recovery"], *given["vmmonitor"]["events"][0]}
        names |= set(given["vmmonitor"]["incident"]["instance"])
        self.assertEqual([], sorted(name for name in names if f"``{name}``" not in page))


class TestPages(unittest.TestCase):
    def test_pages_name_existing_files(self):
        pages = [*DOCS.rglob("*.rst"), *CHECKOUT.glob("*.rst")]
        wrong = [
            f"{page.relative_to(CHECKOUT)}: {name}"
            for page in sorted(pages)
            for name in FILE.findall(page.read_text())
            if not (CHECKOUT / name).exists() and not name.endswith((".sample", "build/html"))
        ]
        self.assertEqual([], wrong)


class TestPerformance(unittest.TestCase):
    """Compare the page with the output of the bench."""

    def test_recorded_figures_match_bench(self):
        shown = json.loads((DOCS / "admin" / "bench.json").read_text())
        self.assertEqual(
            {part: set(keys) for part, keys in figures.KEYS.items()},
            {part: set(keys) for part, keys in shown.items()},
        )
        for name, value in shown["latency"].items():
            if name != "kills":
                self.assertEqual(set(figures.SPREAD), set(value))

    def test_page_describes_exactly_the_bench_figures(self):
        page = (DOCS / "admin" / "performance.rst").read_text()
        named = set(re.findall(r"``([a-z]+(?:_[a-z]+)*_(?:ms|s|mib|percent))``", page))
        printed = {key for keys in figures.KEYS.values() for key in keys}
        self.assertEqual(set(), named - printed)
        self.assertEqual([], [key for key in sorted(printed) if f"``{key}``" not in page])


class TestFigures(unittest.TestCase):
    def test_percentile_is_a_measured_value(self):
        values = [float(number) for number in range(100, 0, -1)]
        self.assertEqual({"p50": 50.0, "p95": 95.0, "p99": 99.0}, figures.spread(values))

    def test_highest_percentile_of_few_values_is_maximum(self):
        self.assertEqual({"p50": 1.0, "p95": 7.0, "p99": 7.0}, figures.spread([7.0, 1.0]))


class TestExplainPage(unittest.TestCase):
    """Compare the words that the page explains with the client."""

    def test_page_words_are_printed_by_client(self):
        page = (DOCS / "admin" / "explain.rst").read_text()
        cells = re.findall(r"^   \* - (``.*``)$", page, re.MULTILINE)
        words = {word for cell in cells for word in re.findall(r"``([^`]+)``", cell)}
        source = "".join(
            path.read_text() for path in sorted((CHECKOUT / "vmmonitor/client").glob("*.py"))
        )
        self.assertGreater(len(words), 15)
        self.assertEqual([], sorted(word for word in words if f'"{word}"' not in source))
