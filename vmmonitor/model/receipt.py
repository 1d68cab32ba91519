# SPDX-License-Identifier: Apache-2.0
"""Define the receipts that an engine returns for events and evidence."""

import dataclasses
import enum


class ReceiptStatus(enum.StrEnum):
    """The result of storing one event, or one item of evidence."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    REFUSED = "refused"
    #: Only for evidence: the engine does not have its event, which was not sent yet, was refused,
    #: or is already deleted.
    UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Receipt:
    """The result of one event of a batch, or of one item of evidence.

    :param reason: why it was refused; otherwise empty.
    """

    status: ReceiptStatus
    reason: str = ""
