# SPDX-License-Identifier: Apache-2.0
"""Identity of an instance, read from its domain XML. Pure; safe for hostile XML."""

from xml.etree import ElementTree

from vmmonitor.model.instance import Instance

NOVA_NAMESPACE = "{http://openstack.org/xmlns/libvirt/nova/"
#: Types of consoles that have no password.
CONSOLES_WITHOUT_PASSWORD = frozenset({"sdl", "desktop", "egl-headless", "dbus"})
#: Maximum number of characters of a name; nova's limit for a display name.
MAX_NAME = 255


def read_instance(uuid: str, hypervisor_name: str, xml: str) -> Instance:
    """Return the identity of an instance.

    :param uuid: UUID of the domain.
    :param hypervisor_name: name of the domain, and of an instance without metadata.
    :param xml: XML of the domain, with or without nova's metadata; ignored if it is not valid.
    """
    name = _cut(hypervisor_name)
    nova = _find_nova_metadata(xml)
    if nova is None:
        return Instance(uuid=uuid, name=name, hypervisor_name=name)
    version = nova.tag.removesuffix("instance")
    owner = f"{version}owner/{version}"
    return Instance(
        uuid=uuid,
        name=_text(nova.find(f"{version}name")) or name,
        hypervisor_name=name,
        project_id=_attribute(nova.find(f"{owner}project"), "uuid"),
        project_name=_text(nova.find(f"{owner}project")),
        user_id=_attribute(nova.find(f"{owner}user"), "uuid"),
        user_name=_text(nova.find(f"{owner}user")),
        flavor=_attribute(nova.find(f"{version}flavor"), "name"),
    )


def read_uuid(xml: str) -> str:
    """Return the UUID in a domain XML; empty if there is none."""
    root = parse_xml(xml)
    return "" if root is None else _text(root.find("uuid")).lower()


def may_have_password(xml: str) -> bool:
    """Return whether a domain has a console that can have a password."""
    root = parse_xml(xml)
    consoles = () if root is None else root.iterfind("devices/graphics")
    return any(console.get("type") not in CONSOLES_WITHOUT_PASSWORD for console in consoles)


def parse_xml(xml: str) -> ElementTree.Element | None:
    """Return the root of an XML document; None if it is not valid."""
    # Entities need a DTD, which libvirt never writes.
    if "<!DOCTYPE" in xml:
        return None
    try:
        return ElementTree.fromstring(xml)
    except (ElementTree.ParseError, ValueError):
        return None


def _find_nova_metadata(xml: str) -> ElementTree.Element | None:
    root = parse_xml(xml)
    if root is None:
        return None
    for child in root.iterfind("metadata/{*}instance"):
        if child.tag.startswith(NOVA_NAMESPACE):
            return child
    return None


def _text(element: ElementTree.Element | None) -> str:
    return "" if element is None else _cut((element.text or "").strip())


def _attribute(element: ElementTree.Element | None, name: str) -> str:
    return "" if element is None else _cut(element.get(name, ""))


def _cut(text: str) -> str:
    return text[:MAX_NAME]
