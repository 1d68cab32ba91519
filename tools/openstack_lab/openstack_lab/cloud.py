# SPDX-License-Identifier: Apache-2.0
"""Create the contents of the lab's cloud: accounts, the catalog, an image, a flavor, servers."""

import pathlib
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import openstack
from openstack import exceptions

from openstack_lab.lab import (
    ADMIN,
    ADMIN_PASSWORD,
    REGION,
    SERVICE_PASSWORD,
    VMMONITOR_ACCOUNT,
    Lab,
    LabError,
)
from openstack_lab.service import Service
from vmmonitor import testing

ROLES = ("admin", "service")
FLAVORS = {"m1.nano": 16, "m1.micro": 24}
IMAGE = "guest"
SEGMENT = "lab"
FIXTURES = pathlib.Path(testing.__file__).parent
GUEST, CONSOLE = FIXTURES / "guest.asm", FIXTURES / "console.py"
WORKFLOW = pathlib.Path(__file__).with_name("recover.yaml")
#: Nova's for servers without a network, and for servers on a host of choice.
MICROVERSION = "2.74"
SERVER_S = 300
#: The BIOS boots from IDE only.
PROPERTIES = {
    "hw_disk_bus": "ide",
    "hw_machine_type": "pc",
    "hw_vif_model": "e1000",
    "hw_watchdog_action": "pause",
}


def account(lab: Lab) -> dict[str, str]:
    """Return the credentials of the administrator."""
    return {
        "auth_url": lab.keystone,
        "username": ADMIN,
        "password": ADMIN_PASSWORD,
        "project_name": "admin",
        "user_domain_name": "Default",
        "project_domain_name": "Default",
        "region_name": REGION,
    }


class Cloud:
    """The cloud as its administrator sees it."""

    def __init__(self, lab: Lab):
        self._lab = lab
        words: dict[str, Any] = {**account(lab), "compute_default_microversion": MICROVERSION}
        # Its types are not worth the trouble: what it returns is made up as it runs.
        self._connection: Any = openstack.connect(**words)

    # -- at the start --------------------------------------------------------------------------
    def register(self, services: Iterable[Service]) -> None:
        """Create the missing users and catalog entries of the services."""
        identity = self._connection.identity
        project = identity.find_project("service") or identity.create_project(
            name="service", domain_id="default"
        )
        roles = [identity.find_role(name) or identity.create_role(name=name) for name in ROLES]
        wanted = [(one.name, one.kind, one.address) for one in services]
        # Nova requires a network service in the catalog.
        wanted.append(("neutron", "network", self._lab.url("network")))
        wanted.append((VMMONITOR_ACCOUNT, "", ""))
        there = {service.type for service in identity.services()}
        for name, kind, address in wanted:
            user = identity.find_user(name) or identity.create_user(
                name=name,
                password=SERVICE_PASSWORD,
                domain_id="default",
                default_project_id=project.id,
            )
            for role in roles:
                identity.assign_project_role_to_user(project, user, role)
            if kind and kind not in there:
                self._publish(name, kind, address)

    def _publish(self, name: str, kind: str, address: str) -> None:
        identity = self._connection.identity
        service = identity.create_service(name=name, type=kind)
        for interface in ("public", "internal", "admin"):
            identity.create_endpoint(
                service_id=service.id, interface=interface, url=address, region_id=REGION
            )

    def fill(self) -> None:
        """Create the missing flavors and the image."""
        compute, images = self._connection.compute, self._connection.image
        there = {flavor.name for flavor in compute.flavors()}
        for name, memory in FLAVORS.items():
            if name not in there:
                compute.create_flavor(name=name, ram=memory, vcpus=1, disk=1)
        if images.find_image(IMAGE) is None:
            images.create_image(
                IMAGE,
                filename=str(self._guest()),
                disk_format="raw",
                container_format="bare",
                visibility="public",
                **PROPERTIES,
            )

    def _guest(self) -> pathlib.Path:
        path = self._lab.directory("data") / "guest.raw"
        subprocess.run(["nasm", "-f", "bin", "-o", path, GUEST], check=True)
        with path.open("ab") as image:
            image.truncate(1 << 20)
        return path

    def join_segment(self) -> None:
        """Add the hosts that are not in a segment of masakari to one."""
        masakari = self._connection.instance_ha
        found = [one for one in masakari.segments() if one.name == SEGMENT]
        segment = (
            found[0]
            if found
            else masakari.create_segment(
                name=SEGMENT, recovery_method="auto", service_type="COMPUTE"
            )
        )
        there = {host.name for host in masakari.hosts(segment.uuid)}
        for name in self._lab.hosts:
            if name not in there:
                masakari.create_host(
                    segment.uuid, name=name, type="COMPUTE", control_attributes="SSH"
                )

    def upload_workflow(self) -> None:
        """Upload the current workflow that recovers a server to mistral."""
        text = WORKFLOW.read_bytes()
        workflow = self._connection.workflow
        headers = {"Content-Type": "text/plain"}
        answer = workflow.post("/workflows?scope=public", data=text, headers=headers)
        if answer.status_code == 409:
            answer = workflow.put("/workflows?scope=public", data=text, headers=headers)
        exceptions.raise_from_response(answer)

    # -- servers -------------------------------------------------------------------------------
    def boot(self, name: str, host: str = "") -> Any:
        """Boot a server and wait until it is active.

        :param host: where; empty leaves it to the scheduler.
        :raises LabError: it comes to nothing.
        """
        compute = self._connection.compute
        try:
            server = compute.create_server(
                name=name,
                flavor_id=compute.find_flavor("m1.nano").id,
                image_id=self._connection.image.find_image(IMAGE).id,
                networks="none",
                **({"host": host} if host else {}),
            )
            return compute.wait_for_server(server, wait=SERVER_S, interval=0.5)
        except exceptions.SDKException as error:
            raise LabError(f"server {name} does not become active: {error}") from error

    def order(self, name: str, letters: str) -> str:
        """Give the guest of a server orders, one a letter; returns each with its answer.

        :raises LabError: there is no such server, or it does not run.
        """
        server = self._connection.compute.find_server(name, ignore_missing=True)
        if server is None:
            raise LabError(f"there is no server {name}")
        server = self._connection.compute.get_server(server.id)
        uri = self._lab.libvirt_uri(server.compute_host)
        command = [sys.executable, "-P", str(CONSOLE), uri, server.id, letters]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise LabError(f"{name} takes no orders: {done.stderr.strip().splitlines()[-1]}")
        return done.stdout
