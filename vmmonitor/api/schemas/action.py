# SPDX-License-Identifier: Apache-2.0
"""Query strings and bodies of actions."""

from collections.abc import Mapping, Sequence
from typing import Any

from vmmonitor.api.schemas import listing
from vmmonitor.model import action, states

INDEX = listing.of(
    filters={
        "state": listing.one_of(tuple(states.ACTION)),
        "verb": listing.one_of((*action.OF_INCIDENT, *action.OF_RECOVERY)),
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
        "description": "a number of seconds above 0, of a year at most",
    },
}


def _body(verbs: Sequence[str], options: Sequence[str]) -> dict[str, Any]:
    properties = {
        "verb": listing.one_of(verbs),
        "comment": _COMMENT,
        **{name: _OPTIONS[name] for name in options},
    }
    action = {
        "type": "object",
        "properties": properties,
        "required": ["verb"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"action": action},
        "required": ["action"],
        "additionalProperties": False,
    }


OF_INCIDENT = _body(action.OF_INCIDENT, ("policy", "seconds"))
OF_RECOVERY = _body(action.OF_RECOVERY, ())
