# SPDX-License-Identifier: Apache-2.0
"""Who an instance is, from its domain XML. Pure; hostile XML harms nothing."""

from xml.etree import ElementTree

from vmmonitor.model.instance import Instance

NOVA = "{http://openstack.org/xmlns/libvirt/nova/"
#: Characters; nova's own limit for a display name.
MAX_TEXT = 255


def instance(uuid: str, hypervisor_name: str, xml: str) -> Instance:
    """Return who the instance is, as far as its domain XML tells.

    :param uuid: the domain's UUID.
    :param hypervisor_name: the domain's name, which is also the name of one without metadata.
    :param xml: the domain's XML, with or without nova's metadata; if it cannot be read, only
        what is known otherwise is returned.
    """
    name = _cut(hypervisor_name)
    nova = _nova(xml)
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


def uuid_of(xml: str) -> str:
    """Return the UUID that a domain XML names, empty if there is none."""
    root = parsed(xml)
    return "" if root is None else _text(root.find("uuid")).lower()


def parsed(xml: str) -> ElementTree.Element | None:
    """Return the root of an XML, None if it cannot be read."""
    # Entities can only be defined in a DTD, and libvirt never writes one.
    if "<!DOCTYPE" in xml:
        return None
    try:
        return ElementTree.fromstring(xml)
    except (ElementTree.ParseError, ValueError):
        return None


def _nova(xml: str) -> ElementTree.Element | None:
    root = parsed(xml)
    if root is None:
        return None
    for child in root.iterfind("metadata/{*}instance"):
        if child.tag.startswith(NOVA):
            return child
    return None


def _text(element: ElementTree.Element | None) -> str:
    return "" if element is None else _cut((element.text or "").strip())


def _attribute(element: ElementTree.Element | None, name: str) -> str:
    return "" if element is None else _cut(element.get(name, ""))


def _cut(text: str) -> str:
    return text[:MAX_TEXT]
