# SPDX-License-Identifier: Apache-2.0
"""Runs tests of one or more kinds with stestr and counts the results.

``tools/test`` and ``tools/flaky`` use it. The tests are listed before they run. A test has passed
only if stestr stored its success. Every other listed test has failed: a skipped test, an expected
failure, a test whose worker died, a test whose ``setUpClass`` failed.

A run fails if a test failed, if a kind has no tests, if stestr fails or if the results cannot be
read. The last line is "N passed, N failed".
"""

import argparse
import collections
import io
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import subunit
import testtools

#: Lines of a traceback that are repeated in the summary; stestr has shown all of them.
LAST_LINES = 12
#: File with the number of the next run of stestr.
NEXT_STREAM = pathlib.Path(".stestr", "next-stream")
#: Kinds whose coverage is measured; the others run real services for most of their time.
COVERED = ("unit", "functional")
PASSED = "success"


class RunFailed(Exception):
    """stestr could not list or run the tests."""


class Results:
    """The results of one run of the tests of one kind.

    :ivar statuses: the status of each test, by its id.
    :ivar details: the last lines of the traceback or of the reason of a test, by its id.
    """

    def __init__(self, expected: Sequence[str]):
        self.statuses = dict.fromkeys(expected, "not run")
        self.details: dict[str, list[str]] = {}

    def read(self, stream: bytes) -> None:
        """Add the results of a subunit v2 stream."""
        result = testtools.StreamToDict(self._add)
        result.startTestRun()
        source = io.BytesIO(stream)
        subunit.ByteStreamToStreamResult(source, non_subunit_name="stdout").run(result)
        result.stopTestRun()

    def failures(self) -> list[str]:
        """Return the ids of the tests that did not pass, sorted."""
        return sorted(test for test, status in self.statuses.items() if status != PASSED)

    def print_failures(self) -> None:
        """Print each test that did not pass, and why."""
        for test in self.failures():
            lines = (f"{self.statuses[test]}: {test}", *self.details.get(test, []))
            print(*lines, sep="\n    ", flush=True)

    def _add(self, test: Any) -> None:
        if test["status"] != "exists":
            self.statuses[test["id"]] = test["status"]
            details = [
                content.as_text()
                for name, content in test["details"].items()
                if name.startswith(("traceback", "reason"))
            ]
            self.details[test["id"]] = "\n".join(details).splitlines()[-LAST_LINES:]


def run_tests(path: str, regex: str, jobs: int, coverage: bool = False) -> Results:
    """Run the tests below a directory whose id matches; stestr shows them meanwhile.

    :param jobs: how many run at a time.
    :param coverage: measure the coverage; the data is added to ``.coverage.*``.
    :raises RunFailed: no test matches, or they cannot be listed, run or counted.
    """
    listing = _stestr("list", "--test-path", path, regex, stdout=subprocess.PIPE)
    expected = listing.stdout.decode().split()
    if listing.returncode:
        raise RunFailed(f"the tests cannot be listed:\n{listing.stdout.decode()}")
    if not expected:
        raise RunFailed("no test to run")
    before = _next_stream()
    environment = {"PYTHON": "coverage run --parallel-mode" if coverage else sys.executable}
    arguments = ("--test-path", path, "--concurrency", str(jobs), "--slowest", regex)
    code = _stestr("run", *arguments, environment=environment).returncode
    results = Results(expected)
    if _next_stream() != before:
        results.read(_stestr("last", "--subunit", stdout=subprocess.PIPE).stdout)
    if code and not results.failures():
        raise RunFailed(f"stestr ended with exit code {code}, but no test failed")
    return results


def _stestr(
    *arguments: str, stdout: int | None = None, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "stestr", *arguments]
    return subprocess.run(
        command, stdout=stdout, env=os.environ | (environment or {}), check=False
    )


def _next_stream() -> str:
    return NEXT_STREAM.read_text() if NEXT_STREAM.exists() else ""


def report(text: str) -> None:
    """Print a progress line."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def run_kinds(kinds: Sequence[str], regex: str, jobs: int, coverage: bool) -> int:
    """Run each kind once; return the exit code."""
    runs, broken = [], []
    for kind in kinds:
        report(f"running the {kind} tests")
        try:
            results = run_tests(
                _path(kind), regex, _jobs(kind, jobs), coverage and kind in COVERED
            )
        except Exception as error:  # the other kinds still run; this one has failed
            broken.append(f"{kind}: {error}")
            report(broken[-1])
        else:
            runs.append(results)
            failed = len(results.failures())
            report(f"{kind}: {len(results.statuses) - failed} passed, {failed} failed")
    for results in runs:
        results.print_failures()
    if coverage and not _has_coverage():
        broken.append("coverage: below the minimum")
    for problem in broken:
        print(problem)
    failed = sum(len(results.failures()) for results in runs) + len(broken)
    passed = sum(list(results.statuses.values()).count(PASSED) for results in runs)
    print(f"{passed} passed, {failed} failed", flush=True)
    return 0 if passed and not failed else 1


def _has_coverage() -> bool:
    """Report the coverage of the last runs; return whether it reaches the minimum."""
    commands = (
        ["combine", "-q"],
        ["html", "-q", "-d", "cover", "--fail-under=0"],
        ["report", "--skip-covered"],
    )
    codes = [
        subprocess.run([sys.executable, "-m", "coverage", *command], check=False).returncode
        for command in commands
    ]
    return not any(codes)


def run_repeatedly(kind: str, times: int, regex: str, jobs: int) -> int:
    """Run one kind several times and print how often each test failed; return the exit code."""
    failures: collections.Counter[str] = collections.Counter()
    passed = 0
    for number in range(1, times + 1):
        report(f"running the {kind} tests, {number} of {times}")
        try:
            results = run_tests(_path(kind), regex, _jobs(kind, jobs))
        except RunFailed as error:
            report(f"{kind}: {error}")
            failures[f"run of the {kind} tests"] += 1
            continue
        results.print_failures()
        failures.update(results.failures())
        passed += list(results.statuses.values()).count(PASSED)
    for test, count in failures.most_common():
        print(f"failed {count} of {times}: {test}")
    print(f"{passed} passed, {failures.total()} failed", flush=True)
    return 0 if passed and not failures else 1


def _path(kind: str) -> str:
    return f"./vmmonitor/tests/{kind}"


def _jobs(kind: str, jobs: int) -> int:
    # The tests of one lab stop services and take hosts down that others use.
    return 1 if kind == "openstack" else jobs


def main() -> int:
    """Run what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(prog="run_tests.py")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--coverage", action="store_true")
    parser.add_argument("--times", type=int, default=0)
    parser.add_argument("--regex", default=".")
    parser.add_argument("kinds", nargs="+")
    args = parser.parse_args()
    if not pathlib.Path(".stestr").exists():
        _stestr("init")
    if args.times:
        return run_repeatedly(args.kinds[0], args.times, args.regex, args.jobs)
    return run_kinds(args.kinds, args.regex, args.jobs, args.coverage)


if __name__ == "__main__":
    sys.exit(main())
