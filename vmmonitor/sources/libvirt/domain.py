# SPDX-License-Identifier: Apache-2.0
"""One look at a domain, or at all of them."""

import libvirt

from vmmonitor.model.instance import Instance, Seen
from vmmonitor.sources.libvirt import decode, metadata

#: The state of a domain that libvirt lists and then cannot be asked about.
UNKNOWN = "unknown-0"


def look(domain: libvirt.virDomain) -> Seen:
    """Return what libvirt says of a domain now.

    :raises libvirt.libvirtError: it is gone, or libvirt is.
    """
    xml = _definition(domain)
    state, reason = decode.state(*domain.state())
    persistent = bool(domain.isPersistent())
    return Seen(
        instance=metadata.instance(domain.UUIDString(), domain.name(), xml),
        state=state,
        reason=reason,
        run_id=domain.ID(),
        definition=xml,
        persistent=persistent,
        autostart=persistent and _autostart(domain),
    )


def _autostart(domain: libvirt.virDomain) -> bool:
    try:
        return bool(domain.autostart())
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise
        return False


def _definition(domain: libvirt.virDomain) -> str:
    """Return the XML of a domain; empty where it is longer than the 4 MiB of libvirt's answers."""
    try:
        # The inactive XML needs no privilege and holds nothing that belongs to this run only.
        return domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_RPC:
            raise
        # It has a name and a state nevertheless, unless the next question finds libvirt gone.
        return ""


def look_at_all(connection: libvirt.virConnect) -> tuple[Seen, ...]:
    """Return what libvirt says of every domain, running or not.

    One that cannot be looked at is listed with an unknown state: it must not seem to be gone.

    :raises libvirt.libvirtError: libvirt cannot be reached.
    """
    seen = (_try(connection, domain) for domain in connection.listAllDomains())
    return tuple(one for one in seen if one)


def _try(connection: libvirt.virConnect, domain: libvirt.virDomain) -> Seen | None:
    try:
        return look(domain)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None  # it went while the others were looked at
        if not connection.isAlive():
            raise
        name = decode.plain(domain.name())
        return Seen(
            instance=Instance(uuid=domain.UUIDString(), name=name, hypervisor_name=name),
            state=UNKNOWN,
            reason="error",
            run_id=domain.ID(),
        )
