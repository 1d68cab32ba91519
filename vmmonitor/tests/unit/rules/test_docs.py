# SPDX-License-Identifier: Apache-2.0
"""Test the examples of the administrator's guide."""

import argparse
import contextlib
import io
import os
import re
import textwrap
import unittest.mock

from vmmonitor import conf as configuration
from vmmonitor.cmd import manage_rules
from vmmonitor.drivers.nova import NovaDriver, NovaMethod
from vmmonitor.model import evidence
from vmmonitor.rules import defaults, filters, matchers, policies
from vmmonitor.tests.unit.rules import base

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(defaults.__path__[0])))
BLOCK = re.compile(r"^\.\. code-block:: (\w+)\n\n((?:   .*\n|\n)+)", re.MULTILINE)


def page(name):
    """Return a page of the guide, and its examples as (language, text)."""
    with open(os.path.join(ROOT, "doc", "source", "admin", name), encoding="utf-8") as file:
        text = file.read()
    blocks = [(kind, textwrap.dedent(body).strip() + "\n") for kind, body in BLOCK.findall(text)]
    return text, blocks


class DocsTest(base.RulesTest):
    def assert_console_matches(self, blocks, path):
        """Run the command of the last example on the page and compare what it prints."""
        kind, session = blocks[-1]
        self.assertEqual("console", kind)
        _, event, command, *expected = session.splitlines()
        words = command.removeprefix("$ vmmonitor-manage ").split()
        words = [{"EVENT.json": "-", "FILE": path}.get(word, word) for word in words]
        parser = argparse.ArgumentParser()
        manage_rules.register(parser.add_subparsers())
        args = parser.parse_args(words)
        out = io.StringIO()
        with (
            contextlib.redirect_stdout(out),
            unittest.mock.patch("sys.stdin", io.StringIO(event)),
        ):
            self.assertEqual(0, args.run(configuration.new([], files=[]), args))
        self.assertEqual(expected, out.getvalue().replace(path, "FILE").splitlines())

    def test_filter_page_examples_are_valid(self):
        text, blocks = page("filters.rst")
        examples = [body for kind, body in blocks if kind == "yaml"]
        self.assertEqual(4, len(examples))
        path = self.file(examples[0])
        self.assertEqual(2, len(filters.load(path).rows))
        for rules in examples[1:]:
            filters.load(self.file("version: 1\nrules:\n" + rules))
        self.assert_console_matches(blocks, path)
        for word in (*matchers.FIELDS, *matchers.OPERATORS):
            self.assertTrue(f"``{word}``" in text or f'``"{word}"``' in text, word)

    def test_evidence_page_examples_are_valid(self):
        text, blocks = page("evidence.rst")
        [rules] = [body for kind, body in blocks if kind == "yaml"]
        loaded = filters.load(self.file("version: 1\nrules:\n" + rules))
        asked = loaded.decide(base.event("lifecycle.crashed", "panicked")).evidence
        self.assertEqual(("screenshot", "panic", "console"), asked)
        for kind in evidence.KINDS:
            self.assertIn(f"``{kind}``", text)
            self.assertIn(f"``{kind}``", page("filters.rst")[0])

    def test_policy_page_examples_are_valid(self):
        _, blocks = page("policies.rst")
        examples = [body for kind, body in blocks if kind == "yaml"]
        self.assertEqual(2, len(examples))
        path = self.file(examples[0])
        shared = policies.load(self.file(examples[1]))
        drivers = [[step.driver for step in row.value.steps] for row in shared.rows]
        self.assertEqual([["libvirt", "webhook"], ["log", "libvirt", "webhook"]], drivers)
        loaded = policies.load(path)
        self.assertEqual((), loaded.get("leave-the-lab-alone").steps)
        step = loaded.get("crashed").steps[0]
        self.assertEqual([2, 4], [step.backoff.delay(n, 0.0) for n in (1, 2)])
        self.assertEqual(
            policies.PolicyStep(driver="webhook", attempts=5, wait_for="nothing"),
            loaded.get("crashed").steps[1],
        )
        self.assert_console_matches(blocks, path)

    def test_nova_driver_page_example_is_valid(self):
        text, blocks = page("driver-nova.rst")
        [example] = [body for kind, body in blocks if kind == "yaml"]
        loaded = policies.load(
            self.file(example), lambda step: NovaDriver.check_options(step.options)
        )
        self.assertEqual(3, len(loaded.rows))
        for method in NovaMethod:
            self.assertIn(f"``{method}``", text)

    def test_step_defaults_equal_the_policy_page(self):
        step = policies.PolicyStep(driver="x")
        self.assertEqual(
            (3, 30, "running", 60), (step.attempts, step.timeout, step.wait_for, step.wait)
        )
        self.assertEqual(policies.Backoff(initial=2, factor=2, max=60, jitter=0.1), step.backoff)
