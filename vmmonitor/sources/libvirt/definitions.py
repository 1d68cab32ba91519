# SPDX-License-Identifier: Apache-2.0
"""Read the definitions of transient domains with the passwords of their consoles.

libvirt forgets a transient domain when it stops. The agent can create it again only from the
definition that it read before, and must not remove the password of its console.
"""

import contextlib
import dataclasses
import threading

import libvirt
from oslo_config import cfg
from oslo_log import log

from vmmonitor.model.instance import Seen
from vmmonitor.sources.libvirt.connection import connect

LOG = log.getLogger(__name__)

#: The definition of the next run, with its passwords.
SECURE_XML = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE


class DefinitionReader:
    """Reads definitions through a writable connection of its own. Thread-safe.

    libvirt shows passwords on writable connections only. The connection is opened only where the
    agent may recover instances, and for the first domain that needs it.
    """

    def __init__(self, conf: cfg.ConfigOpts):
        """Store the options; connect to nothing yet."""
        self._is_allowed = conf.agent.allow_recovery
        self._options = conf.libvirt
        self._lock = threading.Lock()
        self._connection: libvirt.virConnect | None = None
        self._has_warned = False

    def complete(self, seen: Seen) -> Seen:
        """Return the state of a domain with its whole definition, if that is necessary."""
        if not self._is_allowed or seen.persistent or not seen.may_lack_password:
            return seen
        with self._lock:
            try:
                definition = self._read(seen.instance.uuid)
            except libvirt.libvirtError as error:
                self._close()
                self._warn(seen, error)
                return seen
        return dataclasses.replace(seen, definition=definition, may_lack_password=False)

    def close(self) -> None:
        """Close the connection, unless a read hangs; a later read opens another one."""
        if self._lock.acquire(blocking=False):
            try:
                self._close()
            finally:
                self._lock.release()

    def _read(self, uuid: str) -> str:
        if self._connection is None:
            self._connection = connect(self._options, read_only=False)
        return self._connection.lookupByUUIDString(uuid).XMLDesc(SECURE_XML)

    def _close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(libvirt.libvirtError):
                self._connection.close()
        self._connection = None

    def _warn(self, seen: Seen, error: libvirt.libvirtError) -> None:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN or self._has_warned:
            return
        self._has_warned = True
        LOG.warning(
            "Cannot read the console passwords of transient instances, for example %s; they will "
            "not be created again: %s",
            seen.instance.uuid,
            error,
        )
