# SPDX-License-Identifier: Apache-2.0
"""The settings of a server: whether it is recovered, and its priority.

The first of these that contains a setting decides: the server's metadata, the extra specs of its
flavor, the properties of its image, the metadata of its host's aggregates, the lists of projects.
"""

import threading
from collections.abc import Iterator, Mapping
from typing import Any

import cachetools
from oslo_config import cfg
from oslo_utils import strutils

from vmmonitor.openstack.glance import GlanceAPI
from vmmonitor.openstack.nova import NovaAPI

#: Lifetime of the cached properties of an image, in seconds.
IMAGE_TTL = 60
#: Lifetime of the cached list of aggregates, in seconds.
AGGREGATE_TTL = 15
#: Maximum number of cached images.
MAX_IMAGES = 1000
MIN_PRIORITY = -100
MAX_PRIORITY = 100


class RecoverySettings:
    """Reads the settings of servers."""

    def __init__(self, conf: cfg.ConfigOpts, nova: NovaAPI, glance: GlanceAPI):
        """Create empty caches; do not connect yet."""
        self._conf = conf
        self._get_image = cachetools.cached(
            cachetools.TTLCache(MAX_IMAGES, IMAGE_TTL), lock=threading.Lock()
        )(glance.get_image)
        self._list_aggregates = cachetools.cached(
            cachetools.TTLCache(1, AGGREGATE_TTL), lock=threading.Lock()
        )(nova.list_aggregates)

    def wants_recovery(self, server: Mapping[str, Any], host: str) -> tuple[bool, str]:
        """Return whether a server is to be recovered, and the setting that decides.

        nova and glance are called for aggregates and images only if these can decide.

        :raises vmmonitor.model.errors.Retriable: nova or glance does not respond.
        """
        for settings in (
            self._in_metadata(server),
            self._in_flavor(server),
            self._in_image(server),
            self._in_aggregates(host),
            self._in_projects(server),
        ):
            for wanted, setting in settings:
                return wanted, setting
        default = self._conf.nova.recover_by_default
        return default, "" if default else "no setting requests recovery"

    def priority(self, server: Mapping[str, Any]) -> tuple[int, str]:
        """Return a server's priority, and a warning if the setting is invalid, else ''.

        The priority is 0 for an invalid setting.
        """
        key = self._conf.nova.priority_key
        value = _mapping(server.get("metadata")).get(key) if key else None
        if value is None:
            return 0, ""
        try:
            number = int(str(value)[:10])
            if MIN_PRIORITY <= number <= MAX_PRIORITY:
                return number, ""
        except ValueError:
            pass
        return 0, (
            f"its metadata has {key} = {str(value)[:40]}, which is not a whole number from "
            f"{MIN_PRIORITY} to {MAX_PRIORITY} and counts as 0"
        )

    # -- sources of settings, each yields at most one ------------------------------------------
    def _in_metadata(self, server: Mapping[str, Any]) -> Iterator[tuple[bool, str]]:
        key = self._conf.nova.metadata_key
        yield from _setting("its metadata", key, server.get("metadata"))

    def _in_flavor(self, server: Mapping[str, Any]) -> Iterator[tuple[bool, str]]:
        flavor = _mapping(server.get("flavor"))
        owner = f"its flavor {flavor.get('original_name', '')}".rstrip()
        yield from _setting(owner, self._conf.nova.flavor_key, flavor.get("extra_specs"))

    def _in_image(self, server: Mapping[str, Any]) -> Iterator[tuple[bool, str]]:
        key = self._conf.nova.image_key
        image_id = _mapping(server.get("image")).get("id")
        # A server that was booted from a volume has no image.
        if key and isinstance(image_id, str) and image_id:
            yield from _setting(f"its image {image_id}", key, self._get_image(image_id))

    def _in_aggregates(self, host: str) -> Iterator[tuple[bool, str]]:
        """Yield the setting of the host's aggregates; if they differ, the one against recovery."""
        key = self._conf.nova.aggregate_key
        if not key:
            return
        settings = [
            setting
            for aggregate in self._list_aggregates()
            if _contains_host(aggregate, host)
            for setting in _setting(
                f"host aggregate {aggregate.get('name', '')}", key, aggregate.get("metadata")
            )
        ]
        yield from sorted(settings)[:1]

    def _in_projects(self, server: Mapping[str, Any]) -> Iterator[tuple[bool, str]]:
        options, project = self._conf.nova, server.get("tenant_id")
        if project in options.ignore_projects:
            yield False, f"[nova] ignore_projects contains its project {project}"
        if project in options.recover_projects:
            yield True, f"[nova] recover_projects contains its project {project}"


def _setting(owner: str, key: str, values: Any) -> Iterator[tuple[bool, str]]:
    """Yield the setting under a key of a mapping, if its value is a boolean."""
    value = _mapping(values).get(key) if key else None
    wanted = strutils.bool_from_string(value, default=None)
    if wanted is not None:
        yield wanted, f"{owner} has {key} = {value}"


def _contains_host(aggregate: Mapping[str, Any], host: str) -> bool:
    hosts = aggregate.get("hosts")
    return isinstance(hosts, list) and host in hosts


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
