# SPDX-License-Identifier: Apache-2.0
"""What was told, kept in a file so that an agent that starts again does not tell it twice."""

import dataclasses
import json
import os
from collections.abc import Mapping

from oslo_log import log

from vmmonitor.sources.libvirt.liveness.facts import Fact

LOG = log.getLogger(__name__)

#: uuid of an instance -> (which run of it, what was told of that and lasts).
Told = Mapping[str, tuple[str, tuple[Fact, ...]]]


def read(path: str) -> dict[str, tuple[str, tuple[Fact, ...]]]:
    """Return what ``write`` wrote; nothing if there is no file, or one that cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            return {
                uuid: (run, tuple(Fact(**fact) for fact in facts))
                for uuid, (run, facts) in json.load(file).items()
            }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        LOG.warning("What was told of instances that hang is lost, %s: %s", path, error)
        return {}


def write(path: str, told: Told) -> None:
    """Keep what was told; the file is the old one or the new one, whatever happens."""
    form = {
        uuid: (run, [dataclasses.asdict(fact) for fact in facts])
        for uuid, (run, facts) in told.items()
    }
    beside = f"{path}.new"
    try:
        with open(beside, "w", encoding="utf-8") as file:
            json.dump(form, file)
        os.replace(beside, path)
    except OSError as error:
        LOG.warning("A restart of the agent would tell things twice, %s: %s", path, error)
