# SPDX-License-Identifier: Apache-2.0
"""What a handler gets."""

from collections.abc import Mapping

import webob
from oslo_config import cfg

from vmmonitor.db import session


class ApiRequest(webob.Request):
    """A request with what is needed to answer it; the router sets the attributes.

    :ivar arguments: the variable parts of the URL.
    """

    #: Where whoever lets callers in says who it is.
    AUTHOR = "vmmonitor.author"

    conf: cfg.ConfigOpts
    database: session.Database
    arguments: Mapping[str, str]

    @property
    def author(self) -> str:
        """Who is calling, for the record of what they change."""
        return self.environ.get(self.AUTHOR, "")
