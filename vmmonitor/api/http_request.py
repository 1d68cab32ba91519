# SPDX-License-Identifier: Apache-2.0
"""The request that a handler receives."""

from collections.abc import Mapping

import webob
from oslo_config import cfg

from vmmonitor.db import session


class ApiRequest(webob.Request):
    """A request with the configuration, the database and the arguments; the router sets them.

    :ivar arguments: the variable parts of the URL.
    """

    #: Key of the name of the caller in the environment; the authentication sets it.
    AUTHOR = "vmmonitor.author"

    conf: cfg.ConfigOpts
    database: session.Database
    arguments: Mapping[str, str]

    @property
    def author(self) -> str:
        """Name of the caller, to be stored with each change."""
        return self.environ.get(self.AUTHOR, "")
