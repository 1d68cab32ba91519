# SPDX-License-Identifier: Apache-2.0
"""How soon a silence counts as a failure."""

import dataclasses
from collections.abc import Mapping

from oslo_config import cfg


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LivenessSettings:
    """All in seconds.

    :param interval: between two rounds over all instances.
    :param deadline: in which QEMU must answer.
    :param window: for which a guest must do nothing at all before it counts as stalled.
    """

    interval: float
    deadline: float
    window: float


#: sensitivity -> its settings. QEMU is found hung within interval + deadline, a guest to be
#: stalled within window + 2 intervals.
PRESETS: Mapping[str, LivenessSettings] = {
    "high": LivenessSettings(interval=10, deadline=20, window=30),
    "medium": LivenessSettings(interval=20, deadline=40, window=60),
    "low": LivenessSettings(interval=40, deadline=80, window=120),
}


def settings(options: cfg.ConfigOpts.GroupAttr) -> LivenessSettings:
    """Return the preset with what is set by itself put in its place.

    :param options: the group ``[liveness]``.
    """
    preset = PRESETS[options.sensitivity]
    own = {
        field.name: getattr(options, field.name) for field in dataclasses.fields(LivenessSettings)
    }
    return dataclasses.replace(
        preset, **{name: value for name, value in own.items() if value is not None}
    )
