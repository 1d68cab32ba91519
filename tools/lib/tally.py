# SPDX-License-Identifier: Apache-2.0
"""Counts the tests of a subunit stream: prints "PASSED FAILED".

Whatever did not plainly succeed has failed: skipped, expected to fail, succeeded against the
expectation, never ended because its worker died.
"""

import sys

import subunit
import testtools


def main() -> None:
    """Read a subunit v2 stream from standard input."""
    statuses: list[str] = []
    tally = testtools.StreamToDict(lambda test: statuses.append(test["status"]))
    tally.startTestRun()
    subunit.ByteStreamToStreamResult(sys.stdin.buffer, non_subunit_name="stdout").run(tally)
    tally.stopTestRun()
    ran = [status for status in statuses if status != "exists"]
    passed = ran.count("success")
    print(passed, len(ran) - passed)


if __name__ == "__main__":
    main()
