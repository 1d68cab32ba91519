# SPDX-License-Identifier: Apache-2.0
"""The users and the pid files of the QEMU processes of a libvirt."""

import os
import pwd
import tempfile
import unittest

from vmmonitor.sources.libvirt import qemu_owner

CAPABILITIES = """<capabilities><host><uuid>8ea4b75c-8f5d-4661-8e64-933d1b4c4a28</uuid>
<secmodel><model>apparmor</model><doi>0</doi></secmodel>
<secmodel><model>dac</model><doi>0</doi>
<baselabel type='kvm'>+64055:+108</baselabel><baselabel type='qemu'>{user}</baselabel></secmodel>
</host></capabilities>"""


class UidTest(unittest.TestCase):
    def test_users_are_read_from_capabilities(self):
        own = pwd.getpwuid(os.getuid())
        found = qemu_owner.parse_qemu_uids(CAPABILITIES.format(user=f"{own.pw_name}:users"))
        self.assertEqual({64055, own.pw_uid}, found)

    def test_unknown_user_is_left_out(self):
        found = qemu_owner.parse_qemu_uids(CAPABILITIES.format(user="no-such-user:kvm"))
        self.assertEqual({64055}, found)

    def test_session_libvirt_has_no_users(self):
        for text in ("<capabilities><host/></capabilities>", "", "<broken"):
            self.assertEqual(frozenset(), qemu_owner.parse_qemu_uids(text))

    def test_user_of_session_is_that_of_its_socket(self):
        with tempfile.NamedTemporaryFile() as socket:
            uri = f"qemu+unix:///session?socket={socket.name}"
            self.assertEqual(os.getuid(), qemu_owner.find_session_uid(uri))
        self.assertEqual(os.geteuid(), qemu_owner.find_session_uid("qemu:///session"))


class PidDirectoryTest(unittest.TestCase):
    def test_directory_follows_from_uri(self):
        for uri, expected in (
            ("qemu:///system", "/run/libvirt/qemu"),
            ("qemu+unix:///system?socket=/x/libvirt/virtqemud-sock-ro", "/x/libvirt/qemu"),
            ("qemu+unix:///session?socket=/x/libvirt/libvirt-sock", "/x/libvirt/qemu/run"),
            ("test:///default", ""),
        ):
            self.assertEqual(expected, qemu_owner.find_pid_directory(uri), uri)

    def test_directory_of_session_without_socket_is_that_of_the_user(self):
        found = qemu_owner.find_pid_directory("qemu:///session")
        self.assertTrue(found.endswith("/libvirt/qemu/run"), found)
