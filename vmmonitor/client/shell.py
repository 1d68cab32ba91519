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
#: Socket of vmmonitor-standalone, and the token of an API over TCP, as by default.
SOCKET = "/var/lib/vmmonitor/api.sock"
TOKEN_FILE = "/var/lib/vmmonitor/api.token"
TOKEN_VARIABLE = "VMMONITOR_TOKEN_FILE"
UNIX_SCHEME = "unix://"
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

        :param endpoint: URL of the vmmonitor API: ``http://...``, or ``unix://`` and a path.
        """
        self._endpoint = endpoint

    @functools.cached_property
    def vmmonitor(self) -> "http.Client":
        """The client of the vmmonitor API, without keystone."""
        import requests
        from keystoneauth1 import noauth, session, token_endpoint

        from vmmonitor.client import http, unix_socket

        url, token = self._endpoint.rstrip("/"), None
        if url.startswith(UNIX_SCHEME):
            connections = unix_socket.connect(url.removeprefix(UNIX_SCHEME))
            url = unix_socket.BASE_URL
        else:
            connections = requests.Session()
            is_local = urllib.parse.urlsplit(url).hostname in _LOOPBACK
            # A proxy from the environment cannot reach the local loopback interface, and no other
            # host gets the token.
            connections.trust_env = not is_local
            token = _read_token() if is_local else None
        auth = token_endpoint.Token(url, token) if token else noauth.NoAuth(endpoint=url)
        return http.Client(
            session.Session(auth=auth, session=connections, timeout=60), shown_url=self._endpoint
        )


def _read_token() -> str | None:
    """Return the token of the API on this host; None if the user cannot read it.

    Without the token the API rejects the request, and describes where it is.
    """
    try:
        with open(os.environ.get(TOKEN_VARIABLE) or TOKEN_FILE, encoding="ascii") as file:
            return file.read(1024).strip() or None
    except (OSError, UnicodeError):
        return None


def _default_endpoint() -> str:
    """Return the URL in the environment, that of the socket if it exists, or the one over TCP."""
    if os.environ.get(ENDPOINT_VARIABLE):
        return os.environ[ENDPOINT_VARIABLE]
    return f"{UNIX_SCHEME}{SOCKET}" if os.access(SOCKET, os.W_OK) else ENDPOINT


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
            default=_default_endpoint(),
            help=(
                "URL of the vmmonitor API, http://... or unix:///path of its socket (Env: "
                f"{ENDPOINT_VARIABLE}; default: {UNIX_SCHEME}{SOCKET} if you may connect to it, "
                f"else {ENDPOINT} with the token in {TOKEN_FILE} or the file that "
                f"{TOKEN_VARIABLE} names)"
            ),
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
