# SPDX-License-Identifier: Apache-2.0
"""The file of the reported facts, so that they are not reported again after a restart."""

import dataclasses
import json
import os
from collections.abc import Mapping

from oslo_log import log

from vmmonitor.sources.libvirt.liveness.facts import Fact

LOG = log.getLogger(__name__)

#: UUID of an instance -> (id of its run, its facts that last).
ReportedFacts = Mapping[str, tuple[str, tuple[Fact, ...]]]


def read(path: str) -> dict[str, tuple[str, tuple[Fact, ...]]]:
    """Return the reported facts; empty if the file does not exist or is not valid."""
    try:
        with open(path, encoding="utf-8") as file:
            return {
                uuid: (run, tuple(Fact(**fact) for fact in facts))
                for uuid, (run, facts) in json.load(file).items()
            }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        LOG.warning("Could not read %s, findings may be reported again: %s", path, error)
        return {}


def write(path: str, reported: ReportedFacts) -> None:
    """Replace the file atomically."""
    form = {
        uuid: (run, [dataclasses.asdict(fact) for fact in facts])
        for uuid, (run, facts) in reported.items()
    }
    new = f"{path}.new"
    try:
        with open(new, "w", encoding="utf-8") as file:
            json.dump(form, file)
        os.replace(new, path)
    except OSError as error:
        LOG.warning(
            "Could not write %s, findings may be reported again after a restart: %s", path, error
        )
