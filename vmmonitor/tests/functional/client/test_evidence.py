# SPDX-License-Identifier: Apache-2.0
"""``event evidence``."""

import os
import stat

import fixtures

from vmmonitor.tests.fixtures import sample
from vmmonitor.tests.functional.client import base

EVENT = sample.EVENTS[2].event.event_id


class TestEvidence(base.CommandTest):
    def test_list(self):
        text = self.printed("event", "evidence", EVENT)
        for word in ("screenshot", "no screens", "disk_errors", "qemu_log", "has not come"):
            self.assertIn(word, text)
        self.assertNotIn("sha256", text)

    def test_json(self):
        told = {item["kind"]: item for item in self.told("event", "evidence", EVENT)}
        self.assertEqual(sample.EVIDENCE[1].sha256, told["disk_errors"]["sha256"])
        self.assertEqual(
            (23, None), (told["disk_errors"]["size"], told["qemu_log"]["captured_at"])
        )

    def test_save(self):
        directory = os.path.join(self.useFixture(fixtures.TempDir()).path, "a")
        for _ in range(2):  # once more over what is there
            code, _, err = self.run_command("event", "evidence", EVENT, "--save", directory)
            self.assertEqual((0, f"{directory}/disk_errors.json: 23 bytes\n"), (code, err))
        self.assertEqual(["disk_errors.json"], os.listdir(directory))
        (path,) = (os.path.join(directory, name) for name in os.listdir(directory))
        with open(path, "rb") as file:
            self.assertEqual(sample.EVIDENCE[1].content, file.read())
        self.assertEqual(0o600, stat.S_IMODE(os.stat(path).st_mode))

    def test_a_place_that_cannot_be_written(self):
        code, _, err = self.run_command("event", "evidence", EVENT, "--save", "/dev/null/x")
        self.assertEqual(1, code)
        self.assertIn("cannot be written", err)

    def test_no_event(self):
        code, _, err = self.run_command("event", "evidence", "nobody")
        self.assertEqual(1, code)
        self.assertIn("nobody", err)
