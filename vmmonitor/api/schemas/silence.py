# SPDX-License-Identifier: Apache-2.0
"""Query strings and bodies of silences."""

from vmmonitor.api.schemas import listing
from vmmonitor.model.silence import SilenceState

INDEX = listing.of(
    filters={"state": listing.one_of(list(SilenceState)), "author": listing.TEXT},
    sort_keys=("created_at", "starts_at", "ends_at"),
)
CREATE: listing.Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["match", "comment"],
    "properties": {
        # Validated by vmmonitor.rules.
        "match": {},
        "everything": {"type": "boolean", "description": "true or false"},
        "comment": {
            "type": "string",
            "pattern": r"^(?=.*\S)[^\x00-\x1f\x7f]{1,1000}$",
            "description": "a text of 1 to 1000 printable characters",
        },
        "starts_at": listing.TIME,
        "ends_at": listing.TIME,
        "duration": {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": 1e10,
            "description": "a number of seconds above 0",
        },
    },
}
