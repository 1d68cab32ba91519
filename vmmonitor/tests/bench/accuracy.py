# SPDX-License-Identifier: Apache-2.0
"""Measure the share of correct verdicts on the scenarios of the fault catalogue.

The same table and the same lab as in the live test of the fault catalogue.
"""

from collections.abc import Sequence

from vmmonitor.tests.bench.figures import say
from vmmonitor.tests.catalogue import score
from vmmonitor.tests.catalogue.lab import Lab
from vmmonitor.tests.catalogue.planned import ROWS
from vmmonitor.tests.catalogue.rows import Row


def measure(rows: Sequence[Row] = ROWS) -> dict[str, int]:
    """Play every scenario once and return the figures."""
    with Lab(lambda line: say(f"accuracy: {line}")) as lab:
        results = lab.run(rows)
    for line in score.table(rows, results).splitlines():
        say(f"accuracy: {line}")
    for name, sentences in score.find_wrong_rows(rows, results).items():
        say(f"accuracy: {name}: {'; '.join(sentences)}")
    return score.figures(rows, results)
