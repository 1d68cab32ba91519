# SPDX-License-Identifier: Apache-2.0
"""Reads the identity of the machine, and reserves its spool for one agent.

Two agents with the host name of one machine, or with one spool, would take each other's orders and
replace each other's inventory. The engines detect the first by the identity in each report.
"""

import fcntl
import os
from typing import NamedTuple

from oslo_log import log

from vmmonitor.model.errors import VmmonitorError

LOG = log.getLogger(__name__)

#: Maximum length of an id, in characters.
_MAX_ID = 64
#: Suffix of the lock file beside the spool.
LOCK_SUFFIX = ".lock"


class SpoolInUse(VmmonitorError):
    """Another agent uses the spool"""


class MachineIdentity(NamedTuple):
    """The ids of a machine and of its current run; empty if they cannot be read."""

    machine_id: str
    boot_id: str


def read_identity(machine_id_file: str, boot_id_file: str) -> MachineIdentity:
    """Return the identity of this machine."""
    return MachineIdentity(_read_id(machine_id_file), _read_id(boot_id_file))


def _read_id(path: str) -> str:
    if not path:
        return ""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(_MAX_ID).strip()
    except OSError as error:
        LOG.warning("The identity of this machine is incomplete: %s", error)
        return ""


class SpoolLock:
    """The lock file beside the spool. The kernel releases it when the process ends."""

    def __init__(self, spool_path: str):
        """Lock the spool for this process.

        :raises SpoolInUse: another agent has locked it.
        :raises vmmonitor.model.errors.VmmonitorError: the lock file cannot be created.
        """
        self.path = spool_path + LOCK_SUFFIX
        try:
            # The first start of an agent creates the directory of its spool.
            os.makedirs(os.path.dirname(self.path) or ".", mode=0o750, exist_ok=True)
            self._file = os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            raise VmmonitorError(f"cannot lock the spool: {error}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(self._file, 20, 0).decode(errors="replace").strip()
            os.close(self._file)
            reason = f"another agent (process {owner or 'unknown'}) uses the spool {spool_path}"
            raise SpoolInUse(reason) from error
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Release the lock."""
        os.close(self._file)
