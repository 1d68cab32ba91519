# SPDX-License-Identifier: Apache-2.0
"""Counts the tests of a subunit stream: prints "PASSED FAILED", and to standard error each test
that failed with the end of what it said.

Whatever did not plainly succeed has failed: skipped, expected to fail, succeeded against the
expectation, never ended or never begun because its worker died.
"""

import pathlib
import sys
from typing import Any

import subunit
import testtools

#: Lines of a traceback that are shown; stestr has shown the whole of it.
LAST_LINES = 12


def main(expected_file: str) -> None:
    """Read a subunit v2 stream from standard input.

    :param expected_file: file with the id of each test that should have run, one a line.
    """
    statuses = dict.fromkeys(pathlib.Path(expected_file).read_text().splitlines(), "never begun")
    words: dict[str, list[str]] = {}

    def keep(test: Any) -> None:
        if test["status"] != "exists":
            statuses[test["id"]] = test["status"]
            words[test["id"]] = _last_words(test)

    tally = testtools.StreamToDict(keep)
    tally.startTestRun()
    subunit.ByteStreamToStreamResult(sys.stdin.buffer, non_subunit_name="stdout").run(tally)
    tally.stopTestRun()
    for test_id, status in sorted(statuses.items()):
        if status != "success":
            print(f"{status}: {test_id}", *words.get(test_id, []), sep="\n    ", file=sys.stderr)
    passed = list(statuses.values()).count("success")
    print(passed, len(statuses) - passed)


def _last_words(test: Any) -> list[str]:
    """Return the last lines of a test's traceback, or of the reason for which it was skipped."""
    said = [
        content.as_text()
        for name, content in test["details"].items()
        if name.startswith(("traceback", "reason"))
    ]
    return "\n".join(said).splitlines()[-LAST_LINES:]


if __name__ == "__main__":
    main(sys.argv[1])
