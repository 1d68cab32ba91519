# SPDX-License-Identifier: Apache-2.0
"""Admission: the checks between a confirmed failure and its recovery, as one list."""

import dataclasses
from collections.abc import Sequence

from oslo_config import cfg

from vmmonitor.engine.admission.check import AdmissionCheck
from vmmonitor.engine.admission.circuit_breaker import CircuitBreaker
from vmmonitor.engine.admission.concurrency import RecoverySlots
from vmmonitor.engine.admission.restarts import RestartCheck
from vmmonitor.engine.admission.silences import SilenceCheck
from vmmonitor.engine.admission.storms import StormCheck


@dataclasses.dataclass(frozen=True, slots=True)
class Admission:
    """The admission checks of one engine.

    :param checks: evaluated in this order before a first attempt; the first that denies decides.
    :param slots: the last of them. Each further attempt needs a slot again.
    """

    checks: Sequence[AdmissionCheck]
    slots: RecoverySlots


def build_admission(conf: cfg.ConfigOpts, breaker: CircuitBreaker) -> Admission:
    """Return the checks in the order of their evaluation."""
    slots = RecoverySlots(conf)
    return Admission(
        checks=(
            SilenceCheck(),
            StormCheck(conf, breaker),
            RestartCheck(conf),  # restart budget, then flapping
            slots,
        ),
        slots=slots,
    )
