# SPDX-License-Identifier: Apache-2.0
"""Who is to be recovered, and who first: what server, flavor, image, host and project say.

The first of them that says anything decides, in this order: the server's metadata, its flavor's
extra specs, its image's properties, the metadata of its host's aggregates, the lists of projects.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from oslo_config import cfg
from oslo_utils import strutils

from vmmonitor.openstack.glance import GlanceAPI
from vmmonitor.openstack.memory import Memory
from vmmonitor.openstack.nova import NovaAPI

#: Seconds for which an image's properties are remembered.
IMAGE_SECONDS = 60
#: Seconds for which all aggregates are remembered.
AGGREGATE_SECONDS = 15
#: The priorities that a server may have, from and to.
PRIORITIES = (-100, 100)


class Choice:
    """Says whether a server is to be recovered, and how important it is."""

    def __init__(self, conf: cfg.ConfigOpts, nova: NovaAPI, glance: GlanceAPI):
        """Keep what is needed; ask nothing yet."""
        self._conf = conf
        self._nova = nova
        self._glance = glance
        self._images: Memory[Mapping[str, Any]] = Memory(IMAGE_SECONDS)
        self._aggregates: Memory[list[Mapping[str, Any]]] = Memory(AGGREGATE_SECONDS)

    def recovers(self, server: Mapping[str, Any], host: str) -> tuple[bool, str]:
        """Return whether a server is to be recovered, and who says so, for a person.

        Nova and glance are asked about aggregates and images only where that may decide.

        :raises vmmonitor.model.errors.Retriable: nova or glance does not answer.
        """
        for said in (
            self._by_metadata,
            self._by_flavor,
            self._by_image,
            lambda _: self._by_aggregate(host),
            self._by_project,
        ):
            for wanted, who in said(server):
                return wanted, who
        default = self._conf.nova.recover_by_default
        return default, "" if default else "nobody asked for it"

    def priority(self, server: Mapping[str, Any]) -> tuple[int, str]:
        """Return a server's priority, and what is wrong with what it says of it; empty if
        nothing is. What cannot be understood counts as 0."""
        key = self._conf.nova.priority_key
        said = _mapping(server.get("metadata")).get(key) if key else None
        if said is None:
            return 0, ""
        least, most = PRIORITIES
        try:
            number = int(str(said)[:10])
            if least <= number <= most:
                return number, ""
        except ValueError:
            pass
        trouble = f"no whole number from {least} to {most}, and counts as 0"
        return 0, f"its metadata says {key} = {str(said)[:40]}, which is {trouble}"

    # -- who says so ---------------------------------------------------------------------------
    def _by_metadata(self, server: Mapping[str, Any]) -> Iterator[tuple[bool, str]]:
        key = self._conf.nova.metadata_key
        yield from _word("its metadata", key, server.get("metadata"))

    def _by_flavor(self, server: Mapping[str, Any]) -> Iterator[tuple[bool, str]]:
        flavor = _mapping(server.get("flavor"))
        whose = f"its flavor {flavor.get('original_name', '')}".rstrip()
        yield from _word(whose, self._conf.nova.flavor_key, flavor.get("extra_specs"))

    def _by_image(self, server: Mapping[str, Any]) -> Iterator[tuple[bool, str]]:
        key = self._conf.nova.image_key
        image_id = _mapping(server.get("image")).get("id")
        # One that was booted from a volume has none.
        if key and isinstance(image_id, str) and image_id:
            image = self._images.get(image_id, lambda: self._glance.image(image_id))
            yield from _word(f"its image {image_id}", key, image)

    def _by_aggregate(self, host: str) -> Iterator[tuple[bool, str]]:
        """Where a host's aggregates differ, its instances are left alone."""
        key = self._conf.nova.aggregate_key
        if not key:
            return
        told = [
            word
            for one in self._aggregates.get("", self._nova.aggregates)
            if _has(one, host)
            for word in _word(f"host aggregate {one.get('name', '')}", key, one.get("metadata"))
        ]
        yield from sorted(told)[:1]

    def _by_project(self, server: Mapping[str, Any]) -> Iterator[tuple[bool, str]]:
        options, project = self._conf.nova, server.get("tenant_id")
        if project in options.ignore_projects:
            yield False, f"[nova] ignore_projects names its project {project}"
        if project in options.recover_projects:
            yield True, f"[nova] recover_projects names its project {project}"


def _word(whose: str, key: str, said: Any) -> Iterator[tuple[bool, str]]:
    """Yield what a mapping says under a key, if it says yes or no there."""
    word = _mapping(said).get(key) if key else None
    wanted = strutils.bool_from_string(word, default=None)
    if wanted is not None:
        yield wanted, f"{whose} says {key} = {word}"


def _has(aggregate: Mapping[str, Any], host: str) -> bool:
    hosts = aggregate.get("hosts")
    return isinstance(hosts, list) and host in hosts


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
