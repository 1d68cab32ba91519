# SPDX-License-Identifier: Apache-2.0
"""Read and print figures."""

import math
import os
import pathlib
import platform
import sys
import time
from collections.abc import Sequence

#: The output of ``--json``: the keys of each part, under its name.
SPREAD = ("p50", "p95", "p99")
KEYS = {
    "latency": (
        "kills",
        "kill_to_stored_ms",
        "kill_to_callback_ms",
        "callback_to_stored_ms",
        "callback_to_recovery_ms",
    ),
    "throughput": (
        "events_per_s",
        "raw_rpc_calls_per_s",
        "raw_insert_rows_per_s",
        "lost",
        "duplicates",
    ),
    "agent": ("rss_mib", "idle_cpu_percent", "all_sources"),
    "decisions": (
        "incidents",
        "decision_cpu_ms",
        "statements",
        "incidents_at_once",
        "decision_at_once_cpu_ms",
    ),
    "accuracy": ("scenarios", "missed", "false_positives", "duplicates"),
    "storm": ("incidents", "storms", "held", "passed", "all_held_s", "api_ms"),
    "signing": (
        "calls",
        "sign_and_verify_ms",
        "sign_and_verify_batch_ms",
        "raw_call_ms",
        "signed_call_ms",
    ),
    "recovery": (
        "kills",
        "kill_to_action_ms",
        "kill_to_active_ms",
        "eight_servers_s",
        "second_crash_s",
        "taken_over_s",
        "lease_s",
        "masakari",
    ),
}

BEGAN = time.monotonic()


def say(text: str) -> None:
    """Print a progress line, with the seconds since the start and the load of the machine."""
    load = os.getloadavg()[0]
    print(f"[{time.monotonic() - BEGAN:4.0f}s, load {load:.1f}] {text}", file=sys.stderr)


def machine() -> str:
    """Return a description of the machine, in one line."""
    cpuinfo = pathlib.Path("/proc/cpuinfo").read_text()
    model = next(
        (line.split(":")[1].strip() for line in cpuinfo.splitlines() if "model name" in line),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = platform.freedesktop_os_release()["PRETTY_NAME"]
    cores = len(os.sched_getaffinity(0))
    return (
        f"{cores} cores of {model}, {memory:.0f} GiB, {system},"
        f" Linux {platform.release()}, Python {platform.python_version()}"
    )


def now() -> int:
    """Return the machine's clock, which all processes of the bench share; microseconds."""
    return time.time_ns() // 1000


def percentile(values: Sequence[float], share: float) -> float:
    """Return the least value that at least ``share`` percent of the values do not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * share / 100) - 1)]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return p50, p95 and p99, to a tenth."""
    return {name: round(percentile(values, int(name[1:])), 1) for name in SPREAD}


def memory_mib(pid: int) -> dict[str, float]:
    """Return a process's memory in MiB: ``rss``, ``pss`` and ``private``."""
    fields = {}
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, amount = line.split()[:2]
        fields[name.rstrip(":").lower()] = int(amount) / 1024
    private = fields["private_clean"] + fields["private_dirty"]
    return {"rss": fields["rss"], "pss": fields["pss"], "private": private}


def cpu_seconds(pid: int) -> float:
    """Return the time that a process has had on a core, in seconds, to the nanosecond."""
    tasks = pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9
