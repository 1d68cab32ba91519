# SPDX-License-Identifier: Apache-2.0
"""Identify the QEMU processes of a libvirt: their users, and the directory of their pid files."""

import os
import pwd
import urllib.parse

import libvirt

from vmmonitor.model.instance import QemuOwner
from vmmonitor.sources.libvirt import metadata

#: Security model of libvirt that sets the user of QEMU. A session libvirt has none.
USER_MODEL = "dac"
#: libvirt's run directory of the system daemon.
SYSTEM_RUN_DIRECTORY = "/run/libvirt"


def read_owner(connection: libvirt.virConnect) -> QemuOwner:
    """Return what identifies the QEMU processes of a libvirt.

    :raises libvirt.libvirtError: libvirt is not reachable.
    """
    uri = connection.getURI()
    uids = parse_qemu_uids(connection.getCapabilities())
    return QemuOwner(
        uids=uids or frozenset({find_session_uid(uri)}), pid_directory=find_pid_directory(uri)
    )


def guess_owner(uri: str) -> QemuOwner:
    """Return the identity of the QEMU processes that follows from the URI alone.

    :param uri: URI of the connection.
    """
    is_session = urllib.parse.urlsplit(uri).path == "/session"
    uids = frozenset({find_session_uid(uri)}) if is_session else frozenset()
    return QemuOwner(uids=uids, pid_directory=find_pid_directory(uri))


def parse_qemu_uids(capabilities: str) -> frozenset[int]:
    """Return the users that libvirt runs QEMU as by default; empty for a session libvirt.

    :param capabilities: XML of the capabilities of libvirt.
    """
    root = metadata.parse_xml(capabilities)
    found = () if root is None else root.iterfind("host/secmodel")
    labels = [
        label.text or ""
        for model in found
        if model.findtext("model") == USER_MODEL
        for label in model.iterfind("baselabel")
    ]
    return frozenset(uid for label in labels if (uid := _parse_user(label)) is not None)


def _parse_user(label: str) -> int | None:
    """Return the user of a label, such as ``+64055:+108`` or ``qemu:qemu``."""
    user = label.strip().partition(":")[0]
    if user.removeprefix("+").isdecimal():
        return int(user.removeprefix("+"))
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


def find_session_uid(uri: str) -> int:
    """Return the user of a session libvirt, who is also that of its QEMU processes.

    :param uri: URI of the connection.
    """
    try:
        return os.stat(_find_socket(uri)).st_uid
    except OSError:
        return os.geteuid()


def find_pid_directory(uri: str) -> str:
    """Return libvirt's directory of the pid files of its QEMU processes; empty without one.

    :param uri: URI of the connection.
    """
    parts = urllib.parse.urlsplit(uri)
    if parts.scheme.partition("+")[0] != "qemu":
        return ""
    socket = _find_socket(uri)
    if parts.path == "/session":
        run = os.path.dirname(socket) if socket else os.path.join(_user_run_directory(), "libvirt")
        return os.path.join(run, "qemu", "run")
    return os.path.join(os.path.dirname(socket) if socket else SYSTEM_RUN_DIRECTORY, "qemu")


def _find_socket(uri: str) -> str:
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(uri).query)
    return query.get("socket", [""])[0]


def _user_run_directory() -> str:
    return os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
