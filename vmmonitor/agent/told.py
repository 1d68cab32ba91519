# SPDX-License-Identifier: Apache-2.0
"""What an engine is told of the instances on this host, and whether it holds just that.

Each instance has a checksum, made when it changes. The digest of all is their sum: it costs
little with a thousand instances, whatever their order, and any lost difference changes it.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping

from vmmonitor.model.instance import Seen
from vmmonitor.rpc import inventories

#: Checksums and their sums have 256 bits.
RANGE = 2**256


def checksum(seen: Seen) -> int:
    """Return a SHA-256 over all that an engine is told of an instance."""
    text = json.dumps(inventories.write_seen(seen), sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")


def digest(checksums: Iterable[int]) -> str:
    """Return the digest of an inventory, in hex; the order does not matter."""
    return f"{sum(checksums) % RANGE:064x}"


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

        :param instances: uuid -> how it was seen, and the checksum of that.
        """
        self._instances = instances
        self.digest = digest(checksum for _, checksum in instances.values())

    def all(self) -> list[Seen]:
        """Return every instance, by uuid."""
        return [seen for _, (seen, _) in sorted(self._instances.items())]

    def since(self, before: "Told") -> Changes:
        """Return what turned the inventory ``before`` into this one."""
        mine, theirs = self._instances, before._instances
        return Changes(
            changed=[
                seen
                for uuid, (seen, checksum) in sorted(mine.items())
                if uuid not in theirs or theirs[uuid][1] != checksum
            ],
            gone=sorted(theirs.keys() - mine.keys()),
        )


#: What an engine holds of which nothing is known.
NOTHING = Told({})
