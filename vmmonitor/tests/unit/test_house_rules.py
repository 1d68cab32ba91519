# SPDX-License-Identifier: Apache-2.0
"""The rules of HACKING.rst that no linter knows."""

import ast
import pathlib
import re
import unittest
from collections.abc import Callable, Iterator

import vmmonitor

PACKAGE = pathlib.Path(vmmonitor.__file__).parent
CHECKOUT = PACKAGE.parent

MODULE_LINES = 400
FUNCTION_LINES = 50

#: Names that say nothing, or say what another word already says.
VAGUE = {"util", "utils", "helper", "helpers", "manager", "managers", "handler", "misc", "common"}
VAGUE_CLASS = re.compile(r"(Manager|Helper|Handler|Utils?)$")

#: Names that SQLAlchemy prescribes.
PRESCRIBED = {"process_bind_param", "process_literal_param", "process_result_value"}

SPDX = "SPDX-License-Identifier: Apache-2.0"
#: The kinds of file that carry it; "" is a script.
WITH_HEADER = {".py", ".sh", ".asm", ""}
TEXT = WITH_HEADER | {".rst", ".txt", ".toml", ".ini", ".cfg", ".json", ".svg", ".yaml", ".conf"}
#: What belongs to the project in a checkout, which may hold a venv and build results too.
ROOTS = ("vmmonitor", "etc", "tools", "doc/source", "api-ref", "releasenotes", "devstack", ".ci")

#: Directories of one particular machine.
ONE_MACHINE = re.compile(r"(?<![\w./$}])/(work|root|tmp/w|home/[a-z]+)/")


def modules(*under: str) -> Iterator[tuple[pathlib.Path, ast.Module]]:
    """Yield (file, syntax tree) of the package's modules below a directory of it."""
    for path in sorted(PACKAGE.joinpath(*under).rglob("*.py")):
        yield path, ast.parse(path.read_text())


def project_files() -> Iterator[pathlib.Path]:
    """Yield the text files of the checkout."""
    for root in ROOTS:
        for path in sorted((CHECKOUT / root).rglob("*")):
            built = {"__pycache__", "build", "_static"} & set(path.parts)
            if path.is_file() and path.suffix in TEXT and not built:
                yield path
    for path in sorted(CHECKOUT.glob("*")):
        if path.is_file() and path.suffix in TEXT and path.name not in (".git", ".coverage"):
            yield path


def at(path: pathlib.Path, line: int = 1) -> str:
    """Return a place in a file as editors understand it."""
    return f"{path.relative_to(CHECKOUT)}:{line}"


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return a function's length without its docstring."""
    first, last = function.lineno, function.end_lineno or function.lineno
    docstring = 0
    if ast.get_docstring(function) is not None:
        docstring = (function.body[0].end_lineno or 0) - function.body[0].lineno + 1
    return last - first + 1 - docstring


def is_vague(node: ast.ClassDef | ast.FunctionDef) -> bool:
    """Tell whether a name says nothing of what it names."""
    if isinstance(node, ast.ClassDef):
        return bool(VAGUE_CLASS.search(node.name))
    return node.name.startswith("process_") and node.name not in PRESCRIBED


#: Names that several modules give to the same thing of their own, as a convention.
CONVENTIONAL = {"LOG", "GROUP", "OPTS", "REPOSITORY", "INDEX"}


def published_modules() -> Iterator[tuple[pathlib.Path, ast.Module]]:
    """Yield the modules of the service: no tests, no test support, no recorded migrations."""
    for path, tree in modules():
        if not {"tests", "testing", "versions"} & set(path.relative_to(PACKAGE).parts):
            yield path, tree


def class_names(tree: ast.Module) -> Iterator[str]:
    """Yield the names of a module's classes."""
    return (node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


def constant_names(tree: ast.Module) -> Iterator[str]:
    """Yield the names of a module's public constants."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
        for target in targets:
            for each in ast.walk(target):
                if isinstance(each, ast.Name) and each.id.isupper() and each.id[0] != "_":
                    yield each.id


def names_with_several_homes(names_of: Callable[[ast.Module], Iterator[str]]) -> list[str]:
    """Return each name that more than one module defines, with its modules."""
    homes: dict[str, set[str]] = {}
    for path, tree in published_modules():
        for name in names_of(tree):
            homes.setdefault(name, set()).add(str(path.relative_to(PACKAGE)))
    return [
        f"{name}: {', '.join(sorted(found))}"
        for name, found in sorted(homes.items())
        if len(found) > 1 and name not in CONVENTIONAL
    ]


class TestHouseRules(unittest.TestCase):
    def test_class_name_has_one_home(self):
        self.assertEqual([], names_with_several_homes(class_names))

    def test_public_constant_has_one_home(self):
        self.assertEqual([], names_with_several_homes(constant_names))

    def test_modules_are_short(self):
        wrong = [
            f"{at(path)} {lines} lines"
            for path, _ in modules()
            if (lines := path.read_text().count("\n")) > MODULE_LINES
        ]
        self.assertEqual([], wrong)

    def test_functions_are_short(self):
        wrong = [
            f"{at(path, node.lineno)} {node.name}"
            for path, tree in modules()
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and body_lines(node) > FUNCTION_LINES
        ]
        self.assertEqual([], wrong)

    def test_names_say_what_a_thing_is(self):
        wrong = [at(path) for path, _ in modules() if path.stem in VAGUE]
        wrong += [at(p) for p in PACKAGE.rglob("*") if p.is_dir() and p.name in VAGUE]
        for path, tree in modules():
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef | ast.FunctionDef) and is_vague(node):
                    wrong.append(f"{at(path, node.lineno)} {node.name}")
        self.assertEqual([], wrong)

    def test_every_file_names_its_license(self):
        wrong = [
            at(path)
            for path in project_files()
            if path.suffix in WITH_HEADER
            and (path.suffix or path.read_text().startswith("#!"))
            and not any(SPDX in line for line in path.read_text().splitlines()[:3])
        ]
        self.assertEqual([], wrong)

    def test_nothing_names_a_directory_of_one_machine(self):
        wrong = [
            at(path, number)
            for path in project_files()
            for number, line in enumerate(path.read_text().splitlines(), 1)
            if ONE_MACHINE.search(line)
        ]
        self.assertEqual([], wrong)

    def test_unit_tests_never_sleep(self):
        wrong = [
            at(path, node.lineno)
            for path, tree in modules("tests", "unit")
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute | ast.Name)
            and ast.unparse(node) == "time.sleep"
            or isinstance(node, ast.ImportFrom)
            and node.module == "time"
        ]
        self.assertEqual([], wrong)

    def test_no_test_is_skipped(self):
        wrong = [
            at(path, node.lineno)
            for path, tree in modules("tests")
            for node in ast.walk(tree)
            if getattr(node, "attr", getattr(node, "id", ""))
            in ("skipTest", "skip", "skipIf", "skipUnless", "SkipTest", "expectedFailure")
        ]
        self.assertEqual([], wrong)

    def test_nothing_is_left_for_later(self):
        later = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
        wrong = [
            at(path, number)
            for path in project_files()
            for number, line in enumerate(path.read_text().splitlines(), 1)
            if later.search(line)
        ]
        self.assertEqual([], wrong)
