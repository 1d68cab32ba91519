# SPDX-License-Identifier: Apache-2.0
"""``event evidence``."""

import os
import stat

import fixtures

from vmmonitor.tests.fixtures import sample
from vmmonitor.tests.functional.client import base

EVENT = sample.EVENTS[2].event.event_id


class TestEvidence(base.CommandTest):
    def test_list_shows_each_item(self):
        text = self.printed("event", "evidence", EVENT)
        for word in ("screenshot", "no screens", "disk_errors", "qemu_log", "not received yet"):
            self.assertIn(word, text)
        self.assertNotIn("sha256", text)

    def test_json_contains_all_columns(self):
        items = {item["kind"]: item for item in self.parsed("event", "evidence", EVENT)}
        self.assertEqual(sample.EVIDENCE[1].sha256, items["disk_errors"]["sha256"])
        self.assertEqual(
            (23, None), (items["disk_errors"]["size"], items["qemu_log"]["captured_at"])
        )

    def test_save_writes_private_file(self):
        directory = os.path.join(self.useFixture(fixtures.TempDir()).path, "a")
        for _ in range(2):  # the second run overwrites the file
            code, _, err = self.run_command("event", "evidence", EVENT, "--save", directory)
            self.assertEqual((0, f"{directory}/disk_errors.json: 23 bytes\n"), (code, err))
        self.assertEqual(["disk_errors.json"], os.listdir(directory))
        (path,) = (os.path.join(directory, name) for name in os.listdir(directory))
        with open(path, "rb") as file:
            self.assertEqual(sample.EVIDENCE[1].content, file.read())
        self.assertEqual(0o600, stat.S_IMODE(os.stat(path).st_mode))

    def test_save_into_invalid_directory_is_reported(self):
        code, _, err = self.run_command("event", "evidence", EVENT, "--save", "/dev/null/x")
        self.assertEqual(1, code)
        self.assertIn("cannot write", err)

    def test_unknown_event_is_reported(self):
        code, _, err = self.run_command("event", "evidence", "nobody")
        self.assertEqual(1, code)
        self.assertIn("nobody", err)
