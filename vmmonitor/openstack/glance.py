# SPDX-License-Identifier: Apache-2.0
"""Asks glance's API for an image's properties."""

from collections.abc import Mapping
from typing import Any

from oslo_config import cfg

from vmmonitor.model.errors import Retriable
from vmmonitor.openstack.service import Service

GROUP = "glance"


class Silent(Retriable):
    """glance does not answer"""


class GlanceAPI:
    """One session with keystone and glance, for any thread. Logs in as ``[nova]`` does."""

    def __init__(self, conf: cfg.ConfigOpts):
        """Register the options; connect to nothing yet."""
        self._service = Service(conf, GROUP, "image", auth_section="nova")

    def image(self, image_id: str) -> Mapping[str, Any]:
        """Return an image with its properties; empty if there is none, or no more.

        :raises Silent: glance does not answer.
        """
        try:
            answer = self._service.ask("GET", f"/v2/images/{image_id}")
        except Retriable as error:
            raise Silent(str(error)) from error
        if answer.status == 404:
            return {}
        if answer.status != 200:
            raise Silent(f"it answers {answer.status} about image {image_id}")
        return answer.body
