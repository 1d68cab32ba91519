# SPDX-License-Identifier: Apache-2.0
"""Counts the tests of a subunit stream: prints "PASSED FAILED".

Whatever did not plainly succeed has failed: skipped, expected to fail, succeeded against the
expectation, never ended or never begun because its worker died.
"""

import pathlib
import sys
from typing import Any

import subunit
import testtools


def main(expected_file: str) -> None:
    """Read a subunit v2 stream from standard input.

    :param expected_file: file with the id of each test that should have run, one a line.
    """
    statuses = dict.fromkeys(pathlib.Path(expected_file).read_text().splitlines(), "never begun")

    def keep(test: Any) -> None:
        if test["status"] != "exists":
            statuses[test["id"]] = test["status"]

    tally = testtools.StreamToDict(keep)
    tally.startTestRun()
    subunit.ByteStreamToStreamResult(sys.stdin.buffer, non_subunit_name="stdout").run(tally)
    tally.stopTestRun()
    for test_id, status in sorted(statuses.items()):
        if status == "never begun":
            print("never begun:", test_id, file=sys.stderr)
    passed = list(statuses.values()).count("success")
    print(passed, len(statuses) - passed)


if __name__ == "__main__":
    main(sys.argv[1])
