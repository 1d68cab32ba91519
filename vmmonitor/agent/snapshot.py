# SPDX-License-Identifier: Apache-2.0
"""Compute snapshots of the inventory, and the deltas of successive snapshots.

The reporter sends a whole snapshot to an engine without one, and afterwards only deltas. Each
instance has a checksum, computed when the instance changes. The digest of a snapshot is the sum
of the checksums: it is cheap for a thousand instances, independent of their order, and differs
whenever the engine has missed a delta.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping

from vmmonitor.model.instance import Seen
from vmmonitor.rpc import inventory_wire

#: Checksums and their sums have 256 bits.
_MODULUS = 2**256


def compute_checksum(seen: Seen) -> int:
    """Return the SHA-256 of the wire format of an instance."""
    text = json.dumps(inventory_wire.write_seen(seen), sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")


def compute_digest(checksums: Iterable[int]) -> str:
    """Return the digest of an inventory, in hex; the order of the checksums is irrelevant."""
    return f"{sum(checksums) % _MODULUS:064x}"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class InventoryDelta:
    """The changes from one snapshot to a later one.

    :param changed: instances that are new or differ.
    :param gone: UUIDs of instances that the later snapshot lacks.
    """

    changed: list[Seen]
    gone: list[str]


class InventorySnapshot:
    """The inventory at one moment.

    :ivar digest: digest of all instances.
    """

    def __init__(self, instances: Mapping[str, tuple[Seen, int]]):
        """Store the instances and compute their digest.

        :param instances: UUID -> (instance, its checksum).
        """
        self._instances = instances
        self.digest = compute_digest(checksum for _, checksum in instances.values())

    def all(self) -> list[Seen]:
        """Return every instance, ordered by UUID."""
        return [seen for _, (seen, _) in sorted(self._instances.items())]

    def delta_since(self, before: "InventorySnapshot") -> InventoryDelta:
        """Return the delta that turns ``before`` into this snapshot."""
        mine, theirs = self._instances, before._instances
        return InventoryDelta(
            changed=[
                seen
                for uuid, (seen, checksum) in sorted(mine.items())
                if uuid not in theirs or theirs[uuid][1] != checksum
            ],
            gone=sorted(theirs.keys() - mine.keys()),
        )


#: The snapshot that an unknown engine is assumed to hold.
EMPTY_SNAPSHOT = InventorySnapshot({})
