# SPDX-License-Identifier: Apache-2.0
"""``python -m vmmonitor.tests.bench``; ``tools/bench`` installs what it needs, and runs it."""

import argparse
import json
import sys

from vmmonitor.tests.bench import accuracy, agent, decisions, figures, latency, storm, throughput


def main() -> None:
    """Measure what is asked for, and print it."""
    parser = argparse.ArgumentParser(prog="tools/bench", description=__doc__)
    parser.add_argument("part", nargs="?", choices=["all", *figures.KEYS], default="all")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--kills", type=int, default=50, help="for latency (default: 50)")
    args = parser.parse_args()
    figures.say(figures.machine())
    measures = {
        "latency": lambda: latency.measure(args.kills),
        "throughput": throughput.measure,
        "agent": agent.measure,
        "decisions": decisions.measure,
        "accuracy": accuracy.measure,
        "storm": storm.measure,
    }
    parts = list(measures) if args.part == "all" else [args.part]
    results = {part: measures[part]() for part in parts}
    if args.json:
        json.dump(results, sys.stdout, indent=2)
        print()
        return
    for part, result in results.items():
        for name, value in result.items():
            print(f"{part:12}{name:28}{value}")


if __name__ == "__main__":
    main()
