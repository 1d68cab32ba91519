# SPDX-License-Identifier: Apache-2.0
"""What a policy means to do, as it is kept with an incident and told to whoever may read that."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from vmmonitor.rules.policies import Policy

#: Hexadecimal digits that tell options apart.
DIGITS = 12


def of(policy: Policy | None) -> dict[str, Any]:
    """Return a policy as JSON values, without its name.

    The options of drivers may hold what only the readers of the file are to know: they are told by
    a checksum, empty where there are none.

    :param policy: None: nothing is done.
    """
    told = dataclasses.asdict(policy or Policy(name=""))
    del told["name"]
    told["steps"] = [
        {**step, "options": _checksum(step.get("options", {}))} for step in told["steps"]
    ]
    return told


def _checksum(options: Mapping[str, Any]) -> str:
    if not options:
        return ""
    text = json.dumps(options, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
