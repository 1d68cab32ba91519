# SPDX-License-Identifier: Apache-2.0
"""``python -m vmmonitor.tests.bench``; ``tools/bench`` installs what it needs, and runs it."""

import argparse
import json
import sys
from typing import Any

from vmmonitor.tests.bench import accuracy, agent, decisions, figures, latency, storm, throughput

#: Needs the lab of OpenStack services, and root: only when it is asked for.
ON_THE_LAB = "recovery"
LATENCY_KILLS, RECOVERY_KILLS = 50, 20


def main() -> None:
    """Measure what is asked for, and print it."""
    parser = argparse.ArgumentParser(prog="tools/bench", description=__doc__)
    parser.add_argument("part", nargs="?", choices=["all", *figures.KEYS], default="all")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--kills", type=int, help="for latency (default: 50), recovery (20)")
    args = parser.parse_args()
    figures.say(figures.machine())
    measures = {
        "latency": lambda: latency.measure(args.kills or LATENCY_KILLS),
        "throughput": throughput.measure,
        "agent": agent.measure,
        "decisions": decisions.measure,
        "accuracy": accuracy.measure,
        "storm": storm.measure,
        ON_THE_LAB: lambda: _recovery(args.kills or RECOVERY_KILLS),
    }
    parts = [name for name in measures if name != ON_THE_LAB]
    if args.part != "all":
        parts = [args.part]
    results = {part: measures[part]() for part in parts}
    if args.json:
        json.dump(results, sys.stdout, indent=2)
        print()
        return
    for part, result in results.items():
        for name, value in result.items():
            print(f"{part:12}{name:28}{value}")


def _recovery(kills: int) -> dict[str, Any]:
    # Its library, OpenStack's client, is not needed for the rest.
    from vmmonitor.tests.bench import recovery

    return recovery.measure(kills)


if __name__ == "__main__":
    main()
