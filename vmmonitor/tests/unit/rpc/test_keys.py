# SPDX-License-Identifier: Apache-2.0
"""Key files, and the keys of hosts."""

import os
import pathlib
import tempfile

import testtools

from vmmonitor.rpc.keys import HostKeys, InvalidKeyFile, MasterKeys, derive_host_key, format_key

MASTER = bytes(range(32))


class KeysTest(testtools.TestCase):
    def file(self, text: str, mode: int = 0o600) -> str:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = pathlib.Path(folder.name, "keys")
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    def test_host_key_of_each_host_and_key_id_is_different(self):
        keys = {derive_host_key(MASTER, host, id) for host in ("a", "b") for id in ("1", "2")}
        self.assertEqual(4, len(keys))

    def test_master_keys_with_two_lines_know_both_keys_of_a_host(self):
        path = self.file(
            f"# comment\n\n{format_key('2', MASTER[::-1])}\n{format_key('1', MASTER)}\n"
        )
        keys = MasterKeys(path)
        self.assertEqual("2", keys.newest_id)
        self.assertEqual(derive_host_key(MASTER, "a", "1"), keys.find("a", "1"))
        self.assertEqual(["2", "1"], list(keys.of_host("a")))
        self.assertIsNone(keys.find("a", "3"))

    def test_host_keys_for_another_host_are_empty(self):
        keys = HostKeys(self.file(format_key("1", MASTER)), "a")
        self.assertEqual(MASTER, keys.find("a", "1"))
        self.assertIsNone(keys.find("b", "1"))
        self.assertEqual({}, keys.of_host("b"))

    def test_key_file_that_other_users_can_read_is_refused(self):
        for mode in (0o640, 0o604, 0o644):
            path = self.file(format_key("1", MASTER), mode)
            error = self.assertRaises(InvalidKeyFile, MasterKeys, path)
            self.assertIn("must be 0600", str(error))

    def test_invalid_key_file_is_refused_without_showing_a_key(self):
        digits = MASTER.hex()
        for text, reason in (
            ("", "does not contain a key"),
            (f"1 {digits[:-2]}", "64 hexadecimal digits"),
            (f"1 {digits}zz", "64 hexadecimal digits"),
            (f"a|b {digits}", "a key id must be"),
            (digits, "a key id must be"),
            (f"1 {digits}\n1 {digits}", "is not unique"),
        ):
            error = self.assertRaises(InvalidKeyFile, MasterKeys, self.file(text))
            self.assertIn(reason, str(error))
            self.assertNotIn(digits[:16], str(error))

    def test_missing_key_file_is_refused_with_its_path(self):
        error = self.assertRaises(InvalidKeyFile, MasterKeys, "/nowhere/keys")
        self.assertIn("/nowhere/keys", str(error))

    def test_reload_with_invalid_file_keeps_the_keys(self):
        path = self.file(format_key("1", MASTER))
        keys = MasterKeys(path)
        with open(path, "w") as file:
            file.write("nothing")
        self.assertRaises(InvalidKeyFile, keys.reload)
        self.assertEqual("1", keys.newest_id)
        os.remove(path)
        self.assertRaises(InvalidKeyFile, keys.reload)
        self.assertEqual("1", keys.newest_id)
