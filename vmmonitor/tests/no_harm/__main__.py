# SPDX-License-Identifier: Apache-2.0
"""Run many rounds: ``python -m vmmonitor.tests.no_harm --rounds 200 --longest 60``."""

import argparse
import pathlib
import sys
import time

from vmmonitor.tests.no_harm.rounds import Rounds


def main() -> int:
    """Run the rounds, print a line for each, and return the exit code."""
    parser = argparse.ArgumentParser(prog="no_harm", description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="default: the time")
    parser.add_argument("--first", type=int, default=1, help="number of the first round")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=1440.0, help="begin no round later")
    parser.add_argument("--longest", type=float, default=60.0, help="longest stall, in seconds")
    parser.add_argument("--reports", type=pathlib.Path, default=pathlib.Path("no-harm"))
    args = parser.parse_args()
    args.reports.mkdir(exist_ok=True)
    print(f"seed {args.seed}", flush=True)
    harmful = executed = 0
    last = time.monotonic() + 60 * args.minutes
    with Rounds(args.seed, args.longest) as rounds:
        for number in range(args.first, args.first + args.rounds):
            began = time.monotonic()
            if began > last:
                break
            harm = rounds.run(number)
            took = time.monotonic() - began
            executed += 1
            print(f"round {number}: {took:.1f} s, {len(harm)} harm", *harm, sep="\n  ", flush=True)
            report = args.reports / f"{args.seed}-{number}.txt"
            report.write_text("\n\n".join([*harm, rounds.describe()]))
            if harm:
                harmful += 1
                for program in rounds.deployment.programs:
                    log = args.reports / f"{args.seed}-{number}.{program.name}.log"
                    log.write_text(program.log())
        print(*(f"{count:5} {what}" for what, count in sorted(rounds.figures.items())), sep="\n")
    print(f"{executed} rounds, {harmful} with harm")
    return 1 if harmful else 0


if __name__ == "__main__":
    sys.exit(main())
