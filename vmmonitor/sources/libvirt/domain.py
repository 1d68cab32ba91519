# SPDX-License-Identifier: Apache-2.0
"""The current state of one domain, or of all domains."""

import libvirt

from vmmonitor.model.instance import Instance, Seen
from vmmonitor.sources.libvirt import decode, metadata

#: State of a domain that libvirt lists but cannot be asked about.
UNKNOWN_STATE = "unknown-0"


def examine(domain: libvirt.virDomain) -> Seen:
    """Return the state and the definition of a domain.

    :raises libvirt.libvirtError: the domain no longer exists, or libvirt is not reachable.
    """
    xml = _read_definition(domain)
    state, reason = decode.decode_state(*domain.state())
    persistent = bool(domain.isPersistent())
    return Seen(
        instance=metadata.read_instance(domain.UUIDString(), domain.name(), xml),
        state=state,
        reason=reason,
        run_id=domain.ID(),
        definition=xml,
        may_lack_password=metadata.may_have_password(xml),
        persistent=persistent,
        autostart=persistent and _read_autostart(domain),
    )


def examine_all(connection: libvirt.virConnect) -> tuple[Seen, ...]:
    """Return the state and the definition of every domain, running or not.

    A domain that cannot be examined is listed with an unknown state, so that it does not seem to
    be gone.

    :raises libvirt.libvirtError: libvirt is not reachable.
    """
    found = (_try_examine(connection, domain) for domain in connection.listAllDomains())
    return tuple(seen for seen in found if seen)


def find(connection: libvirt.virConnect, uuid: str) -> Seen | None:
    """Return the state of a domain; None if libvirt does not have it, or cannot examine it.

    :raises libvirt.libvirtError: libvirt is not reachable.
    """
    try:
        return examine(connection.lookupByUUIDString(uuid))
    except libvirt.libvirtError:
        if not connection.isAlive():
            raise
        return None


def _read_autostart(domain: libvirt.virDomain) -> bool:
    try:
        return bool(domain.autostart())
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise
        return False


def _read_definition(domain: libvirt.virDomain) -> str:
    """Return the XML of a domain; empty if it exceeds the 4 MiB of a libvirt message."""
    try:
        # The inactive XML needs no privileges and contains nothing of the current run.
        return domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_RPC:
            raise
        # If libvirt is not reachable instead, the next call raises.
        return ""


def _try_examine(connection: libvirt.virConnect, domain: libvirt.virDomain) -> Seen | None:
    try:
        return examine(domain)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            # It ended while the others were examined.
            return None
        if not connection.isAlive():
            raise
        name = decode.to_plain_value(domain.name())
        return Seen(
            instance=Instance(uuid=domain.UUIDString(), name=name, hypervisor_name=name),
            state=UNKNOWN_STATE,
            reason="error",
            run_id=domain.ID(),
        )
