# SPDX-License-Identifier: Apache-2.0
"""What an engine is told of the instances on this host, and whether it holds just that.

Each instance has a fingerprint, made when it changes. The digest of all is their sum: it costs
little with a thousand instances, whatever their order, and any lost difference changes it.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping

from vmmonitor.model.instance import Seen
from vmmonitor.rpc import inventories

#: Fingerprints and their sums have 256 bits.
RANGE = 2**256


def fingerprint(seen: Seen) -> int:
    """Return a SHA-256 over all that an engine is told of an instance."""
    text = json.dumps(inventories.write_seen(seen), sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")


def digest(fingerprints: Iterable[int]) -> str:
    """Return the digest of an inventory, in hex; the order does not matter."""
    return f"{sum(fingerprints) % RANGE:064x}"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """What turns one inventory into another.

    :param gone: uuids of what is not in the other one.
    """

    changed: list[Seen]
    gone: list[str]


class Told:
    """An inventory as it was at one moment.

    :ivar digest: of all of it.
    """

    def __init__(self, instances: Mapping[str, tuple[Seen, int]]):
        """Keep it.

        :param instances: uuid -> how it was seen, and the fingerprint of that.
        """
        self._instances = instances
        self.digest = digest(fingerprint for _, fingerprint in instances.values())

    def all(self) -> list[Seen]:
        """Return every instance, by uuid."""
        return [seen for _, (seen, _) in sorted(self._instances.items())]

    def since(self, before: "Told") -> Changes:
        """Return what turned the inventory ``before`` into this one."""
        mine, theirs = self._instances, before._instances
        return Changes(
            changed=[
                seen
                for uuid, (seen, fingerprint) in sorted(mine.items())
                if uuid not in theirs or theirs[uuid][1] != fingerprint
            ],
            gone=sorted(theirs.keys() - mine.keys()),
        )


#: What an engine holds of which nothing is known.
NOTHING = Told({})
