# SPDX-License-Identifier: Apache-2.0
"""tools/lib/run_tests.py on small projects: no result is lost and no failure is green."""

import pathlib
import subprocess
import sys
import textwrap

import fixtures
import testtools

import vmmonitor

CHECKOUT = pathlib.Path(vmmonitor.__file__).parent.parent
RUN_TESTS = CHECKOUT / "tools" / "lib" / "run_tests.py"

PASSES = """
    import unittest

    class Passes(unittest.TestCase):
        def test_first(self):
            pass

        def test_second(self):
            pass
"""
SKIPS = """
    import unittest

    class Skips(unittest.TestCase):
        def test_is_skipped(self):
            raise unittest.SkipTest("nothing to see")
"""
FAILS = """
    import unittest

    class Fails(unittest.TestCase):
        def test_is_wrong(self):
            self.fail("one is not two")
"""
DIES = """
    import os
    import signal
    import unittest

    class Dies(unittest.TestCase):
        def test_1_kills_its_worker(self):
            os.kill(os.getpid(), signal.SIGKILL)

        def test_2_never_begins(self):
            pass
"""
SET_UP_FAILS = """
    import unittest

    class SetUpFails(unittest.TestCase):
        @classmethod
        def setUpClass(cls):
            raise RuntimeError("the lab is not there")

        def test_needs_the_lab(self):
            pass
"""
FAILS_AT_TIMES = """
    import pathlib
    import unittest

    class FailsAtTimes(unittest.TestCase):
        def test_every_second_run(self):
            mark = pathlib.Path("mark")
            if mark.exists():
                mark.unlink()
                self.fail("once more")
            mark.touch()
"""


class TestRunTests(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.project = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.write("vmmonitor/__init__.py", "")
        self.write("vmmonitor/tests/__init__.py", "")
        self.write("vmmonitor/tests/unit/__init__.py", "")

    def write(self, name: str, content: str) -> None:
        path = self.project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(content))

    def write_tests(self, **modules: str) -> None:
        for name, content in modules.items():
            self.write(f"vmmonitor/tests/unit/test_{name}.py", content)

    def run_tool(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(RUN_TESTS), *arguments],
            cwd=self.project,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )

    def assert_result(self, code: int, last_line: str, *arguments: str) -> str:
        done = self.run_tool(*(arguments or ("unit",)))
        self.addDetail("output", testtools.content.text_content(done.stdout))
        self.assertEqual((code, last_line), (done.returncode, done.stdout.splitlines()[-1]))
        return done.stdout

    def test_run_counts_each_listed_test_that_did_not_succeed_as_failed(self):
        self.write_tests(passes=PASSES, skips=SKIPS, fails=FAILS, lab=SET_UP_FAILS)
        # The set-up of a class is a result of its own, beside the test that did not run.
        output = self.assert_result(1, "2 passed, 4 failed")
        summary = output[output.index("[") :].splitlines()
        for line in (
            "skip: vmmonitor.tests.unit.test_skips.Skips.test_is_skipped",
            "fail: vmmonitor.tests.unit.test_fails.Fails.test_is_wrong",
            "    AssertionError: one is not two",
            "fail: setUpClass (vmmonitor.tests.unit.test_lab.SetUpFails)",
            "not run: vmmonitor.tests.unit.test_lab.SetUpFails.test_needs_the_lab",
        ):
            self.assertIn(line, summary)

    def test_tests_of_a_killed_worker_count_as_failed(self):
        self.write_tests(dies=DIES)
        output = self.assert_result(1, "0 passed, 2 failed", "--jobs", "1", "unit")
        self.assertIn("not run: vmmonitor.tests.unit.test_dies.Dies.test_2_never_begins", output)

    def test_module_that_cannot_be_imported_fails_the_run(self):
        self.write_tests(passes=PASSES, broken="import a_module_that_does_not_exist\n")
        self.assert_result(1, "0 passed, 1 failed")

    def test_kind_without_tests_fails_and_the_next_kind_runs(self):
        self.write_tests(passes=PASSES)
        self.write("vmmonitor/tests/functional/__init__.py", "")
        output = self.assert_result(1, "2 passed, 1 failed", "functional", "unit")
        self.assertIn("functional: no test to run", output)

    def test_run_whose_results_are_not_stored_fails(self):
        self.write_tests(passes=PASSES)
        self.write(".stestr/format", "1\n")
        self.write(".stestr/next-stream", "not a number\n")
        self.assert_result(1, "0 passed, 2 failed")

    def test_repeated_run_counts_the_failures_of_each_test(self):
        self.write_tests(passes=PASSES, at_times=FAILS_AT_TIMES)
        output = self.assert_result(1, "10 passed, 2 failed", "--times", "4", "unit")
        test = "vmmonitor.tests.unit.test_at_times.FailsAtTimes.test_every_second_run"
        self.assertIn(f"failed 2 of 4: {test}", output)

    def test_repeated_run_without_failures_succeeds(self):
        self.write_tests(passes=PASSES)
        self.assert_result(0, "2 passed, 0 failed", "--times", "1", "unit")
