# SPDX-License-Identifier: Apache-2.0
"""What nova told of an instance before its incident is known to whoever judges it."""

from vmmonitor.model.incident import Verdict, VerdictKind
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.samples import SECOND
from vmmonitor.tests.functional.engine import base
from vmmonitor.tests.functional.engine.base import delivery


class PlannedTest(base.EngineCase):
    def test_the_expectation_is_told_what_nova_did_before(self):
        told: list[list[str]] = []

        def answer(_, events):
            told.append([event.cause for event in events])
            return Verdict(kind=VerdictKind.PLANNED, reason="nova powers it off")

        self.expectation.answer = answer
        for seconds, cause in ((-601, "nova.reboot/start"), (-2, "nova.power_off/start")):
            at = samples.NOON + seconds * SECOND
            self.store(delivery(cause, action="record", occurred_at=at))
        self.store(delivery("nova.power_off/start", action="record", uuid=samples.new_id()))
        self.store(delivery(), delivery("nova.power_off/end", action="record"))
        self.recoveries()
        self.eventually_in("ignored")
        self.assertEqual(
            [["nova.power_off/start", "lifecycle.stopped/failed", "nova.power_off/end"]], told
        )
