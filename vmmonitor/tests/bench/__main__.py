# SPDX-License-Identifier: Apache-2.0
"""``python -m vmmonitor.tests.bench``; ``tools/bench`` installs what it needs, and runs it."""

import argparse
import contextlib
import faulthandler
import json
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from vmmonitor.tests.bench import (
    accuracy,
    agent,
    decisions,
    figures,
    latency,
    signing,
    storm,
    throughput,
)
from vmmonitor.tests.catalogue.planned import ROWS

#: Needs the lab of OpenStack services and root; only measured if requested.
ON_THE_LAB = "recovery"
LATENCY_KILLS, RECOVERY_KILLS = 50, 20
#: Timeout of each part, in seconds; about three times its usual duration.
LIMITS_S = {
    "latency": 600,
    "throughput": 900,
    "agent": 900,
    "decisions": 600,
    "accuracy": 900,
    "storm": 600,
    "signing": 300,
    "recovery": 3600,
}
#: Delay, in seconds, from the timeout of a part that does not end until its process is ended.
GRACE_S = 180
#: The sizes of each part in the tests.
TINY: Mapping[str, Mapping[str, Any]] = {
    "latency": {"kills": 1, "warm_up": 1},
    "throughput": {"agents": 2, "sizes": {throughput.BATCH: 500, 1: 5}},
    "agent": {"guests": (1,), "test_domains": 10, "settle_s": 1, "idle_s": 1},
    "decisions": {"warm_up": 1, "one_by_one": 2, "at_once": 5},
    "accuracy": {"rows": [row for row in ROWS if row.cause][:1]},
    "storm": {"hosts": 2, "each": 10, "look_s": 2},
    "signing": {"calls": 5, "batch": 5},
    "recovery": {"kills": 1, "at_once": 1, "again_s": 10},
}


def main() -> None:
    """Measure the requested parts, and print the figures."""
    parser = argparse.ArgumentParser(prog="tools/bench", description=__doc__)
    parser.add_argument("part", nargs="?", choices=["all", *figures.KEYS], default="all")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--kills", type=int, help="for latency (default: 50), recovery (20)")
    parser.add_argument("--tiny", action="store_true", help="only show that the part works")
    args = parser.parse_args()
    figures.say(figures.machine())
    parts = [name for name in figures.KEYS if name != ON_THE_LAB]
    if args.part != "all":
        parts = [args.part]
    results = {}
    for part in parts:
        with time_limit(part, LIMITS_S[part]):
            results[part] = measurement(part)(**sizes(part, args.kills, args.tiny))
    if args.json:
        json.dump(results, sys.stdout, indent=2)
        print()
        return
    for part, result in results.items():
        for name, value in result.items():
            print(f"{part:12}{name:28}{value}")


def measurement(part: str) -> Callable[..., dict[str, Any]]:
    """Return the function that measures a part."""
    if part == ON_THE_LAB:
        # Only this part needs the client library of OpenStack.
        from vmmonitor.tests.bench import recovery

        return recovery.measure
    modules = (latency, throughput, agent, decisions, accuracy, storm, signing)
    return {module.__name__.rpartition(".")[2]: module.measure for module in modules}[part]


def sizes(part: str, kills: int | None, tiny: bool) -> Mapping[str, Any]:
    """Return the arguments of a part's measurement."""
    if tiny:
        return TINY[part]
    defaults = {"latency": LATENCY_KILLS, ON_THE_LAB: RECOVERY_KILLS}
    return {"kills": kills or defaults[part]} if part in defaults else {}


@contextlib.contextmanager
def time_limit(part: str, seconds: int) -> Iterator[None]:
    """Raise a TimeoutError in the block after some seconds, and end the process if that hangs."""

    def expire(*_: object) -> None:
        raise TimeoutError(f"{part} is not finished after {seconds} s")

    signal.signal(signal.SIGALRM, expire)
    signal.alarm(seconds)
    # Not cancelled after an error: threads may keep the process from its end.
    faulthandler.dump_traceback_later(seconds + GRACE_S, exit=True)
    try:
        yield
    finally:
        signal.alarm(0)
    faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main()
