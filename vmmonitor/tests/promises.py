# SPDX-License-Identifier: Apache-2.0
"""Which tests show which of the promises that doc/source/user/concepts.rst makes.

``python -m vmmonitor.tests.promises`` prints each promise with its tests.
"""

import ast
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import TypeVar

CHECKOUT = pathlib.Path(__file__).parents[2]
CONCEPTS = CHECKOUT / "doc" / "source" / "user" / "concepts.rst"
TESTS = pathlib.Path(__file__).parent

_ROW = re.compile(r"^   \* - (P\d+)$", re.MULTILINE)

Test = TypeVar("Test")


def shows(*promises: str) -> Callable[[Test], Test]:
    """Mark a test class or a test method as one that shows promises, such as ``P4``."""

    def mark(test: Test) -> Test:
        return test

    return mark


def list_promises() -> list[str]:
    """Return the numbers of the documented promises."""
    return _ROW.findall(CONCEPTS.read_text())


def find_tests() -> dict[str, list[str]]:
    """Return the names of the marked classes and methods by promise."""
    found: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        module = ".".join(path.relative_to(CHECKOUT).with_suffix("").parts)
        for name, promises in _find_marks(ast.parse(path.read_text()).body):
            for promise in promises:
                found.setdefault(promise, []).append(f"{module}.{name}")
    return found


def _find_marks(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    for node in body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef):
            continue
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "shows":
                yield prefix + node.name, [ast.literal_eval(one) for one in decorator.args]
        if isinstance(node, ast.ClassDef):
            yield from _find_marks(node.body, f"{node.name}.")


def main() -> None:
    """Print the promises and their tests."""
    tests = find_tests()
    for promise in list_promises():
        print(promise, *tests.get(promise, []), sep="\n  ")


if __name__ == "__main__":
    main()
