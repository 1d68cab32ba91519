# SPDX-License-Identifier: Apache-2.0
"""HTTP through a unix socket, for the requests library."""

import socket
from typing import Any

import requests
import urllib3
from requests import adapters

#: URL that the requests are sent to: the socket's server needs some host name.
BASE_URL = "http://localhost"


class _UnixConnection(urllib3.connection.HTTPConnection):
    """A connection to a unix socket."""

    def __init__(self, path: str, **more: Any):
        super().__init__("localhost", **more)
        self._path = path

    def _new_conn(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        try:
            if isinstance(self.timeout, int | float):
                connection.settimeout(self.timeout)
            connection.connect(self._path)
        except OSError as error:
            connection.close()
            raise urllib3.exceptions.NewConnectionError(self, str(error)) from error
        return connection


class _UnixConnectionPool(urllib3.connectionpool.HTTPConnectionPool):
    """The connections to a unix socket."""

    def __init__(self, path: str):
        super().__init__("localhost")
        self._path = path

    def _new_conn(self) -> _UnixConnection:
        return _UnixConnection(self._path, timeout=self.timeout.connect_timeout)


class UnixSocketAdapter(adapters.HTTPAdapter):
    """Sends each request through one unix socket, for any host in its URL."""

    def __init__(self, path: str):
        """Store the path; the first request connects."""
        super().__init__()
        self._pool = _UnixConnectionPool(path)

    def get_connection_with_tls_context(self, *_args: Any, **_more: Any) -> _UnixConnectionPool:
        """Return the connections to the socket."""
        return self._pool

    def get_connection(self, *_args: Any, **_more: Any) -> _UnixConnectionPool:
        """Return the connections to the socket, for requests before 2.32."""
        return self._pool

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()
        super().close()


def connect(path: str) -> requests.Session:
    """Return a session whose requests to ``BASE_URL`` go through a unix socket."""
    session = requests.Session()
    session.trust_env = False
    session.mount(BASE_URL, UnixSocketAdapter(path))
    return session
