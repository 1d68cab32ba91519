# SPDX-License-Identifier: Apache-2.0
"""Run every scenario of the fault catalogue on real guests, with the real programs."""

import testtools
from testtools import content

from vmmonitor.tests.catalogue import score
from vmmonitor.tests.catalogue.lab import Lab
from vmmonitor.tests.catalogue.planned import ROWS
from vmmonitor.tests.promises import shows


@shows("P4", "P5")
class FaultCatalogueTest(testtools.TestCase):
    def test_every_scenario_matches_its_row(self):
        lab = self.useFixture(Lab())
        self.addOnException(lambda _: lab.deployment.attach(self))
        results = lab.run(ROWS)
        table = score.table(ROWS, results)
        self.addDetail("confusion", content.text_content(table))
        print(table)
        wrong = score.find_wrong_rows(ROWS, results)
        for name in wrong:
            self.addDetail(f"timeline of {name}", content.text_content(lab.explain(name)))
        self.assertEqual({}, wrong)
        figures = score.figures(ROWS, results)
        self.assertEqual(
            {"scenarios": len(ROWS), "missed": 0, "false_positives": 0, "duplicates": 0}, figures
        )
