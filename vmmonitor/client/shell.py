# SPDX-License-Identifier: Apache-2.0
"""The ``vmmonitor`` command, for use without openstackclient or without OpenStack.

It imports few modules, and late: imports take most of the time of a short command.
"""

import argparse
import functools
import importlib.metadata
import logging
import os
import sys
import urllib.parse
from typing import TYPE_CHECKING

from cliff import app, commandmanager

from vmmonitor import standard_output

if TYPE_CHECKING:
    from vmmonitor.client import http

ENDPOINT = "http://127.0.0.1:15869"
ENDPOINT_VARIABLE = "VMMONITOR_ENDPOINT"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class PluginCommands(commandmanager.CommandManager):
    """The commands of the openstackclient plugin, without their prefix ``vmmonitor``.

    ``openstack vmmonitor event list`` is ``vmmonitor event list`` in this shell, so that each
    command has one entry point.
    """

    NAMESPACE = "openstack.vmmonitor.v1"
    PREFIX = "vmmonitor "

    def load_commands(self, namespace: str) -> None:
        """Load the commands of a group of entry points and strip the prefix of their names."""
        super().load_commands(namespace)
        self.commands = {
            name.removeprefix(self.PREFIX): entry for name, entry in self.commands.items()
        }


class Clients:
    """Creates API clients, under the attribute names of openstackclient's client manager."""

    def __init__(self, endpoint: str):
        """Store the URL; the first request connects.

        :param endpoint: URL of the vmmonitor API.
        """
        self._endpoint = endpoint

    @functools.cached_property
    def vmmonitor(self) -> "http.Client":
        """The client of the vmmonitor API, without authentication."""
        import requests
        from keystoneauth1 import noauth, session

        from vmmonitor.client import http

        connections = requests.Session()
        # A proxy from the environment cannot reach the local loopback interface.
        host = urllib.parse.urlsplit(self._endpoint).hostname
        connections.trust_env = host not in _LOOPBACK
        auth = noauth.NoAuth(endpoint=self._endpoint.rstrip("/"))
        return http.Client(session.Session(auth=auth, session=connections, timeout=60))


class Shell(app.App):
    """The ``vmmonitor`` command."""

    NAME = "vmmonitor"
    client_manager: Clients

    def build_option_parser(
        self, description: str | None, version: str | None, argparse_kwargs: dict | None = None
    ) -> argparse.ArgumentParser:
        """Return cliff's parser with the global options of vmmonitor."""
        parser = super().build_option_parser(description, version, argparse_kwargs)
        parser.add_argument(
            "--endpoint",
            metavar="<url>",
            default=os.environ.get(ENDPOINT_VARIABLE) or ENDPOINT,
            help=f"URL of the vmmonitor API (Env: {ENDPOINT_VARIABLE}; default: {ENDPOINT})",
        )
        return parser

    def configure_logging(self) -> None:
        """Log the responses of HTTP libraries only with ``--verbose`` or ``--debug``."""
        super().configure_logging()
        if self.options.verbose_level <= self.DEFAULT_VERBOSE_LEVEL:
            for name in ("keystoneauth", "urllib3"):
                logging.getLogger(name).setLevel(logging.WARNING)

    def initialize_app(self, argv: list[str]) -> None:
        """Create the clients of the commands."""
        self.client_manager = Clients(self.options.endpoint)


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    :param argv: the command line without the program's name.
    :returns: the exit code: 0, 1 for an error, 2 for a wrong command line.
    """
    shell = Shell(
        description="Command-line client for the vmmonitor API.",
        version=importlib.metadata.version("vmmonitor"),
        command_manager=PluginCommands(PluginCommands.NAMESPACE),
    )
    words = (sys.argv[1:] if argv is None else argv) or ["--help"]
    return standard_output.run_command(lambda: shell.run(words))


if __name__ == "__main__":
    sys.exit(main())
