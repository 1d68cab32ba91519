# SPDX-License-Identifier: Apache-2.0
"""Test the login at keystone and the look-up of services in its catalog over real HTTP."""

from typing import Any

import fixtures
import testtools
from keystoneauth1 import loading
from keystoneauth1.fixture import V3Token

from vmmonitor import conf as configuration
from vmmonitor.model.errors import Retriable
from vmmonitor.openstack.masakari import MasakariAPI
from vmmonitor.openstack.mistral import MistralAPI
from vmmonitor.tests.fixtures.rest_service import Asked, RestService

#: group -> (its client's class, the type that its installer registers it as).
SERVICES = {
    MasakariAPI.GROUP: (MasakariAPI, "instance-ha"),
    MistralAPI.GROUP: (MistralAPI, "workflowv2"),
}


class Cloud(RestService):
    """A keystone with a catalog, and the services in the catalog."""

    def reply(self, asked: Asked) -> tuple[int, Any]:
        if asked.path != "/v3/auth/tokens":
            return 200, {
                "segments": [{}],
                "workflows": [{}],
                "token": asked.headers["X-Auth-Token"],
            }
        wanted = asked.body["auth"]["identity"]["password"]["user"]
        if wanted["password"] != "right":
            return 401, {"error": {"code": 401, "message": "no"}}
        token = V3Token(user_id="u", project_id="p")
        for group, (_, kind) in SERVICES.items():
            token.add_service(kind).add_standard_endpoints(internal=f"{self.url}/{group}")
        return 201, token


class CatalogTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.useFixture(fixtures.EnvironmentVariable("NO_PROXY", "127.0.0.1"))
        self.cloud = self.useFixture(Cloud())
        self.cloud.headers["X-Subject-Token"] = "given"
        self.conf = configuration.new([], files=[])

    def connect(self, group: str, login: str, password: str = "right") -> Any:
        """Return the client of a group, with an account in the group ``login``."""
        api = SERVICES[group][0](self.conf)
        self.conf.register_opts(loading.get_auth_plugin_conf_options("password"), group=login)
        options = {
            "auth_type": "password",
            "auth_url": f"{self.cloud.url}/v3",
            "username": "vmmonitor",
            "password": password,
            "project_name": "service",
            "user_domain_name": "Default",
            "project_domain_name": "Default",
        }
        loading.register_auth_conf_options(self.conf, login)
        for name, value in options.items():
            self.conf.set_override(name, value, login)
        self.conf.set_override("valid_interfaces", ["internal"], group)
        if login != group:
            self.conf.set_override("auth_section", login, group)
        return api

    def ask(self, api: Any) -> Any:
        path = "/segments" if isinstance(api, MasakariAPI) else "/workflows"
        return api.probe(path, 5)

    def test_service_is_found_by_its_type(self):
        for group in SERVICES:
            self.assertTrue(self.ask(self.connect(group, group)).is_success)
            self.assertIn(f"/{group}/", self.cloud.asked[-1].path)

    def test_auth_section_uses_the_account_of_another_group(self):
        for group in SERVICES:
            self.assertTrue(self.ask(self.connect(group, "nova")).is_success)

    def test_wrong_password_raises_retriable(self):
        api = self.connect("masakari", "masakari", "wrong")
        error = self.assertRaises(Retriable, self.ask, api)
        self.assertIn("Unauthorized", str(error))
        self.assertNotIn("wrong", str(error))
