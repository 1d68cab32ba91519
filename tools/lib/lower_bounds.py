# SPDX-License-Identifier: Apache-2.0
"""Prints a constraint for the lowest version of each package that vmmonitor says it works with.

The packages are those of requirements.txt, test-requirements.txt and the extras. tools/constraints
makes lower-constraints.txt of them.
"""

import pathlib
import re
import sys
import tomllib

CHECKOUT = pathlib.Path(__file__).parents[2]

_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(\[[\w,-]+\])?>=(?P<version>[\w.]+)")


def main() -> int:
    """Print one constraint per line; exit 1 if a requirement has no lower bound."""
    pyproject = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    requirements = (CHECKOUT / "requirements.txt").read_text().splitlines()
    requirements += (CHECKOUT / "test-requirements.txt").read_text().splitlines()
    for extra in pyproject["project"]["optional-dependencies"].values():
        requirements += extra
    pins = {}
    for requirement in requirements:
        found = _REQUIREMENT.fullmatch(requirement)
        if not found:
            print(f"no lower bound: {requirement}", file=sys.stderr)
            return 1
        pins[re.sub(r"[-_.]+", "-", found["name"]).lower()] = found["version"]
    for name, version in sorted(pins.items()):
        print(f"{name}=={version}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
