# SPDX-License-Identifier: Apache-2.0
"""Time limits of the liveness source, derived from ``[liveness] sensitivity``."""

import dataclasses
from collections.abc import Mapping

from oslo_config import cfg


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LivenessSettings:
    """Time limits, in seconds.

    :param interval: interval of the rounds over all instances.
    :param deadline: time within which QEMU must answer.
    :param window: minimum time without any activity of a stalled guest.
    """

    interval: float
    deadline: float
    window: float


#: Sensitivity -> settings. A hung QEMU is found within interval + deadline, a stalled guest within
#: window + 2 intervals.
PRESETS: Mapping[str, LivenessSettings] = {
    "high": LivenessSettings(interval=10, deadline=20, window=30),
    "medium": LivenessSettings(interval=20, deadline=40, window=60),
    "low": LivenessSettings(interval=40, deadline=80, window=120),
}


def read_settings(options: cfg.ConfigOpts.GroupAttr) -> LivenessSettings:
    """Return the preset, overridden by the options that are set.

    :param options: the group ``[liveness]``.
    """
    preset = PRESETS[options.sensitivity]
    fields = dataclasses.fields(LivenessSettings)
    own = {field.name: getattr(options, field.name) for field in fields}
    return dataclasses.replace(
        preset, **{name: value for name, value in own.items() if value is not None}
    )
