# SPDX-License-Identifier: Apache-2.0
"""Who an instance is, from good and from hostile XML."""

import hypothesis
import testtools
from hypothesis import strategies

from vmmonitor.model.instance import Instance
from vmmonitor.sources.libvirt import metadata
from vmmonitor.testing.guest import NovaMetadata

UUID = "c7a1a0f4-6d4b-4bd1-8a1a-1d4e3b0f7c11"
UNNAMED = Instance(uuid=UUID, name="instance-1", hypervisor_name="instance-1")


def domain(inside="", prolog=""):
    """A domain's XML with a metadata element."""
    return f"{prolog}<domain><uuid>{UUID}</uuid><metadata>{inside}</metadata></domain>"


def known(xml):
    """What is known of the instance with this XML."""
    return metadata.read_instance(UUID, "instance-1", xml)


class MetadataTest(testtools.TestCase):
    def test_nova_s(self):
        nova = NovaMetadata(name="web <1> é")
        self.assertEqual(
            Instance(
                uuid=UUID,
                name="web <1> é",
                hypervisor_name="instance-1",
                project_id=nova.project_id,
                project_name=nova.project,
                user_id=nova.user_id,
                user_name=nova.user,
                flavor=nova.flavor,
            ),
            known(domain(nova.xml())),
        )

    def test_an_older_or_newer_version_of_nova_s(self):
        for version in ("1.0", "2.7"):
            xml = domain(NovaMetadata().xml().replace("nova/1.1", f"nova/{version}"))
            self.assertEqual("server-1", known(xml).name)

    def test_somebody_else_s_instance_element(self):
        other = "<instance xmlns='http://example.com/'><name>x</name></instance>"
        self.assertEqual(UNNAMED, known(domain(other)))
        self.assertEqual("server-1", known(domain(other + NovaMetadata().xml())).name)

    def test_parts_that_are_missing(self):
        nova = "<n:instance xmlns:n='http://openstack.org/xmlns/libvirt/nova/1.1'>{}</n:instance>"
        for inside in (
            "",
            "<n:name/>",
            "<n:owner/>",
            "<n:flavor/>",
            "<n:owner><n:user/></n:owner>",
        ):
            self.assertEqual(UNNAMED, known(domain(nova.format(inside))))

    def test_no_metadata(self):
        for xml in ("", "<", "nonsense", "<domain/>", "<domain>\0</domain>", domain(), "\ud800"):
            self.assertEqual(UNNAMED, known(xml))

    def test_entities_are_not_expanded(self):
        bomb = '<!DOCTYPE d [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>'
        self.assertEqual(
            UNNAMED, known(domain(NovaMetadata().xml().replace("server-1", "&b;"), bomb))
        )
        outside = '<!DOCTYPE d [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
        self.assertEqual(
            UNNAMED, known(domain(NovaMetadata().xml().replace("server-1", "&a;"), outside))
        )

    def test_long_values_are_cut(self):
        found = known(domain(NovaMetadata(name="x" * 2**20, flavor="y" * 2**20).xml()))
        self.assertEqual("x" * 255, found.name)
        self.assertEqual("y" * 255, found.flavor)

    def test_deep_nesting(self):
        self.assertEqual(UNNAMED, known(domain("<a>" * 50_000 + "</a>" * 50_000)))

    def test_uuid_of(self):
        self.assertEqual(UUID, metadata.read_uuid(domain()))
        self.assertEqual(
            UUID, metadata.read_uuid(f"<domain><uuid> {UUID.upper()}</uuid></domain>")
        )
        for xml in ("", "<domain/>", "<domain>"):
            self.assertEqual("", metadata.read_uuid(xml))

    @hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
    @hypothesis.given(strategies.text())
    def test_never_an_error(self, text):
        for xml in (text, domain(text), domain(NovaMetadata().xml().replace("server-1", text))):
            found = known(xml)
            self.assertEqual(UUID, found.uuid)
            self.assertNotEqual("", found.name)
            self.assertLessEqual(len(found.name), metadata.MAX_NAME)


class PasswordTest(testtools.TestCase):
    def test_console_that_can_have_a_password_is_found(self):
        for kind, expected in (
            ("vnc", True),
            ("spice", True),
            ("rdp", True),
            ("sdl", False),
            ("egl-headless", False),
        ):
            xml = f"<domain><devices><graphics type='{kind}'/></devices></domain>"
            self.assertEqual(expected, metadata.may_have_password(xml), kind)

    def test_domain_without_console_has_no_password(self):
        for xml in (domain(), "", "<broken"):
            self.assertIs(False, metadata.may_have_password(xml))
