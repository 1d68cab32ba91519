# SPDX-License-Identifier: Apache-2.0
"""Query strings and bodies of operator requests."""

from collections.abc import Mapping, Sequence
from typing import Any

from vmmonitor.api.schemas import listing
from vmmonitor.model import request as verbs
from vmmonitor.model import states

INDEX = listing.of(
    filters={
        "state": listing.one_of(tuple(states.REQUEST_TRANSITIONS)),
        "verb": listing.one_of((*verbs.OF_INCIDENT, *verbs.OF_RECOVERY)),
        "author": listing.TEXT,
        "incident_id": listing.TEXT,
        "recovery_id": listing.TEXT,
    },
    sort_keys=("created_at",),
)

_COMMENT = {
    "type": "string",
    "maxLength": 4096,
    "description": "a text of at most 4096 characters",
}
_OPTIONS: Mapping[str, Any] = {
    "policy": {
        "type": "string",
        "pattern": r"^[^\x00-\x1f\x7f]{1,64}$",
        "description": "the name of a policy",
    },
    "seconds": {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 366 * 86400,
        "description": "a number of seconds above 0 and at most a year",
    },
}


def _body(allowed: Sequence[str], options: Sequence[str]) -> dict[str, Any]:
    properties = {
        "verb": listing.one_of(allowed),
        "comment": _COMMENT,
        **{name: _OPTIONS[name] for name in options},
    }
    request = {
        "type": "object",
        "properties": properties,
        "required": ["verb"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"request": request},
        "required": ["request"],
        "additionalProperties": False,
    }


INCIDENT_REQUEST = _body(verbs.OF_INCIDENT, ("policy", "seconds"))
RECOVERY_REQUEST = _body(verbs.OF_RECOVERY, ())
