# SPDX-License-Identifier: Apache-2.0
"""Random stalls and kills of every part during recoveries do no harm.

Two hosts, two engines, RabbitMQ and MariaDB; guests on network disks, which nothing locks; and an
owner who stops, starts and migrates them meanwhile. ``doc/source/contributor/testing.rst``
describes how to run more rounds and how to repeat one.
"""

import os

import testtools
from testtools import content

from vmmonitor.tests.fixtures.deployment import LOG_BYTES
from vmmonitor.tests.no_harm.rounds import Rounds
from vmmonitor.tests.promises import shows

SEED = int(os.environ.get("VMMONITOR_NO_HARM_SEED", "9"))
FIRST = int(os.environ.get("VMMONITOR_NO_HARM_FIRST", "1"))
ROUNDS = int(os.environ.get("VMMONITOR_NO_HARM_ROUNDS", "20"))
#: Longest stall, in seconds.
LONGEST_S = float(os.environ.get("VMMONITOR_NO_HARM_LONGEST", "3"))


@shows("P1", "P4", "P11")
class TestNoHarm(testtools.TestCase):
    def test_random_faults_during_recoveries_do_no_harm(self):
        rounds = self.useFixture(Rounds(SEED, LONGEST_S))
        for number in range(FIRST, FIRST + ROUNDS):
            harm = rounds.run(number)
            if harm:
                self.explain(rounds, number)
            self.assertEqual([], harm, f"round {number} of seed {SEED}")
        # Rounds without a recovery, or without a stop by the owner, would show nothing.
        self.assertGreater(rounds.figures["incidents resolved"], ROUNDS // 2)
        if ROUNDS > 5:
            self.assertGreater(rounds.figures["stopped guests at the end of a round"], 0)

    def explain(self, rounds, number):
        """Attach what happened in a round, and the logs."""
        again = (
            f"VMMONITOR_NO_HARM_SEED={SEED} VMMONITOR_NO_HARM_FIRST={number} "
            f"VMMONITOR_NO_HARM_ROUNDS=1 VMMONITOR_NO_HARM_LONGEST={LONGEST_S:g} "
            "tools/test live test_no_harm"
        )
        self.addDetail("repeat this round", content.text_content(again))
        self.addDetail("actions and timelines", content.text_content(rounds.describe()))
        for program in rounds.deployment.programs:
            text = program.log()[-LOG_BYTES:]
            self.addDetail(f"{program.name}.log", content.text_content(text))
