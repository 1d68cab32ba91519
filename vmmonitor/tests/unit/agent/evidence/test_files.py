# SPDX-License-Identifier: Apache-2.0
"""A directory of evidence: whole or not at all, private, and bounded."""

import os
import stat
import uuid
from unittest import mock

import fixtures
import testtools

from vmmonitor.agent.evidence.files import BLOCK_SIZE, EvidenceFiles, EvidenceIncomplete
from vmmonitor.model.evidence import Item

ITEMS = [
    Item(kind="screenshot", captured_at=5, content=b"\x89PNG"),
    Item(kind="console", captured_at=6, message="no console"),
]


class FilesTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.useFixture(fixtures.TempDir()).path
        self.path = os.path.join(directory, "a", "kept")

    def files(self, blocks: int = 1000) -> EvidenceFiles:
        return EvidenceFiles(self.path, blocks * BLOCK_SIZE)

    def write(self, files: EvidenceFiles, count: int) -> list[str]:
        names = [str(uuid.uuid4()) for _ in range(count)]
        for number, name in enumerate(names):
            files.write(name, ITEMS)
            os.utime(os.path.join(self.path, name), (number, number))
        return names

    def test_evidence_is_read_as_written_also_after_a_restart(self):
        files = self.files()
        self.assertFalse(os.path.exists(self.path))
        (name,) = self.write(files, 1)
        for one in (files, self.files()):
            self.assertEqual([name], one.names())
            self.assertEqual(ITEMS, one.read(name))
        files.remove(name)
        self.assertEqual([], self.files().names())
        self.assertRaises(EvidenceIncomplete, files.read, name)

    def test_files_are_readable_by_the_owner_only(self):
        (name,) = self.write(self.files(), 1)
        place = os.path.join(self.path, name)
        modes = [stat.S_IMODE(os.stat(one).st_mode) for one in (self.path, place)]
        modes += [
            stat.S_IMODE(os.stat(os.path.join(place, one)).st_mode) for one in os.listdir(place)
        ]
        self.assertEqual([0o700, 0o700, 0o600, 0o600], modes)

    def test_oldest_evidence_is_deleted_to_make_room(self):
        files = self.files(blocks=3 * 3)  # a directory, a manifest, a screenshot: of three events
        names = self.write(files, 5)
        self.assertEqual(names[2:], files.names())
        self.assertEqual(sorted(names[2:]), sorted(os.listdir(self.path)))
        self.assertEqual(2, files.overflowed)
        again = self.files(blocks=3 * 3)
        again.write(last := str(uuid.uuid4()), ITEMS)
        self.assertEqual([*names[3:], last], again.names())

    def test_evidence_deleted_by_the_sender_needs_no_room(self):
        files = self.files(blocks=1)
        remove = files.remove

        def remove_all(_):
            for name in files.names():
                remove(name)

        first, second = self.write(files, 1) + [str(uuid.uuid4())]
        files.remove = lambda name: None if name == second else remove_all(name)
        files.write(second, ITEMS)
        files._size = 10 * files._max_bytes
        files._make_room(second)
        self.assertNotIn(first, files.names())

    def test_newest_evidence_is_kept_whatever_its_size(self):
        files = self.files(blocks=1)
        *_, last = self.write(files, 2)
        self.assertEqual([last], files.names())

    def test_old_evidence_is_deleted(self):
        names = self.write(self.files(), 4)
        files = self.files()
        self.assertEqual(2, files.expire(before=2))
        self.assertEqual(names[2:], files.names())

    def test_failed_write_leaves_nothing(self):
        files = self.files()
        with mock.patch("os.rename", side_effect=OSError(28, "No space left on device")):
            self.assertRaises(OSError, files.write, str(uuid.uuid4()), ITEMS)
        self.assertEqual([], os.listdir(self.path))
        self.assertEqual([], files.names())

    def test_incomplete_directories_are_removed_and_foreign_files_kept(self):
        self.write(self.files(), 1)
        for name in (".new-x", "letters", "README"):
            os.mkdir(os.path.join(self.path, name))
        os.symlink("/", os.path.join(self.path, str(uuid.uuid4())))
        self.assertEqual(1, len(self.files()))
        self.assertFalse(os.path.exists(os.path.join(self.path, ".new-x")))
        self.assertTrue(os.path.exists(os.path.join(self.path, "letters")))

    def test_incomplete_evidence_raises(self):
        files = self.files()
        (name,) = self.write(files, 1)
        place = os.path.join(self.path, name)
        for file, content in (
            ("screenshot.png", b"other"),
            ("manifest.json", b'{"items": [{"kind": "../../etc/shadow", "file": "x"}]}'),
            ("manifest.json", b"[]"),
            ("manifest.json", b""),
        ):
            with open(os.path.join(place, file), "wb") as broken:
                broken.write(content)
            self.assertRaises(EvidenceIncomplete, files.read, name)

    def test_evidence_of_the_same_event_is_replaced(self):
        files = self.files()
        (name,) = self.write(files, 1)
        files.write(name, ITEMS[:1])
        self.assertEqual(ITEMS[:1], files.read(name))
        self.assertEqual([name], self.files().names())
