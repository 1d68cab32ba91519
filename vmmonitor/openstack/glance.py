# SPDX-License-Identifier: Apache-2.0
"""Client of glance: the properties of an image."""

from collections.abc import Mapping
from typing import Any

from vmmonitor import text
from vmmonitor.model.errors import Retriable
from vmmonitor.openstack.service import Service, unexpected_status


class GlanceUnavailable(Retriable):
    """glance does not respond"""


class GlanceAPI(Service):
    """A client of glance. The credentials are those of ``[nova]`` by default."""

    GROUP = "glance"
    SERVICE_TYPE = "image"
    AUTH_SECTION = "nova"

    def get_image(self, image_id: str) -> Mapping[str, Any]:
        """Return an image with its properties, or an empty mapping for a missing image.

        :raises GlanceUnavailable: glance does not respond.
        """
        path = text.url_path("v2", "images", image_id)
        try:
            response = self.request("GET", path)
        except Retriable as error:
            raise GlanceUnavailable(str(error)) from error
        if response.status == 404:
            return {}
        if response.status != 200:
            raise GlanceUnavailable(str(unexpected_status(response, path)))
        return response.body
