# SPDX-License-Identifier: Apache-2.0
"""Plain words for what the API calls by short names, for a person who is in a hurry."""

from collections.abc import Mapping
from typing import Any

#: Cause, or type alone, of an event -> what it means.
EVENTS = {
    "lifecycle.stopped/failed": "its QEMU process was killed or crashed",
    "lifecycle.stopped/crashed": "it was stopped because its guest crashed",
    "lifecycle.stopped/shutdown": "it was shut down",
    "lifecycle.stopped/destroyed": "somebody had it stopped by force",
    "lifecycle.stopped/saved": "it was saved to disk",
    "lifecycle.stopped/migrated": "it left for another host",
    "lifecycle.stopped/vanished": "it was gone when the agent looked again",
    "lifecycle.stopped/unknown": "it stopped, and libvirt does not know why",
    "lifecycle.stopped/daemon": "libvirt gave it up when it came back to it",
    "lifecycle.stopped": "it stopped",
    "lifecycle.shutdown": "it is shutting down",
    "lifecycle.crashed/panicked": "its guest's kernel panicked",
    "lifecycle.crashed/crashloaded": "its guest runs its crash kernel",
    "lifecycle.crashed": "its guest crashed",
    "lifecycle.suspended/ioerror": "it was paused by an error of its storage",
    "lifecycle.suspended/watchdog": "it was paused because its guest hangs",
    "lifecycle.suspended/migrated": "it is paused, to be migrated",
    "lifecycle.suspended": "it was paused",
    "lifecycle.resumed": "it runs on",
    "lifecycle.started": "it was started",
    "lifecycle.pmsuspended": "its guest went to sleep",
    "lifecycle.defined": "its definition was changed",
    "lifecycle.undefined": "its definition was removed",
    "process.exited": "its QEMU process ended, and nobody has said why yet",
    "io_error": "one of its disks failed",
    "io_error_reason": "one of its disks failed",
    "block_io_error": "one of its disks failed",
    "watchdog": "its guest did not feed its watchdog in time",
    "reboot": "its guest rebooted",
    "liveness.hung": "its QEMU does not answer",
    "liveness.stalled/failed": "its guest stands still",
    "liveness.stalled": "its guest may stand still",
    "liveness.paused": "it was found paused",
    "liveness.recovered": "it answers again",
    "liveness.cleared": "a trouble of it is over",
    "recovery.ending": "the agent ends it by force, to start it again",
    "recovery.running": "the agent found it running",
    "reconcile.missing": "it should run, and its host does not have it",
    "reconcile.not_running": "it should run, and does not",
    "reconcile.paused": "it should run, and is paused",
    "reconcile.unexpected": "it runs, and should not",
    "reconcile.two_hosts": "it runs on two hosts at once",
    "reconcile.wrong_host": "it runs on another host than it should",
    "reconcile.agrees": "it is as it should be again",
    "agent.late": "the agent of the host does not report any more",
    "agent.blind": "the agent of the host cannot see its instances",
}

#: Attributes of an event that a person wants to read, in this order.
ATTRIBUTES = ("device", "path", "reason", "shutdown_by", "by_user")

#: What the rules made of an event.
ACTIONS = {"incident": "which opens an incident", "record": "which is only recorded"}

#: State that an incident came to -> what follows from that, in its story.
CAME_TO = {
    "pending": "it waits to be judged",
    "unhandled": "nothing acts on it any more",
    "recovering": "it is recovered",
    "held": "nothing is done for now",
    "silenced": "it is silenced",
    "resolved": "it is over",
    "unrecovered": "it is given up",
    "ignored": "it is left alone",
}

#: State of a recovery -> what it says of the attempt, after the word attempt or driver.
ATTEMPTS = {
    "requested": "is to begin",
    "running": "is at work",
    "waiting": "has done its part, and waits to see the instance run",
    "succeeded": "succeeded",
    "failed": "failed",
    "skipped": "found nothing to recover",
    "cancelled": "was not needed any more",
}

#: State of an incident -> its first line. Of a host only two states are ever seen.
INSTANCE = {
    "pending": "waits, and nothing has been done about it yet.",
    "unhandled": "FAILED, AND NOTHING ACTS ON IT: it waits for a person.",
    "recovering": "is being recovered.",
    "held": "IS HELD: nothing is done about it for now.",
    "silenced": "is silenced: an operator wants nothing done about it for now.",
    "unrecovered": "IS GIVEN UP: everything was tried, and it was not seen running again.",
    "ignored": "is left alone: this was no failure, or there is nothing left to recover.",
    "resolved": "runs again.",
}
#: The same where nobody saw the instance run again.
SETTLED = "is settled: its incident is over."
HOST = {
    "unhandled": "IS NOT WATCHED: what fails there now is not seen.",
    "resolved": "is over: its host was not watched for a while.",
}
STORM = {
    "unhandled": "goes on.",
    "held": "goes on: its instances wait for its end, or for somebody to release them.",
    "resolved": "is over.",
}

#: Why an incident is held or silenced.
HELD_BY = {
    "unknown": "nobody who was asked can tell whether it failed",
    "silence": "a silence of an operator",
    "maintenance": "the maintenance of its host",
    "storm": "the storm fuse: too many failed at once",
    "budget": "its budget: it was recovered too often of late",
    "flapping": "its comings and goings: it fails again and again",
    "concurrency": "the queue: others are recovered first",
    "operator": "an operator",
}


def event(type: str, detail: str, attributes: Mapping[str, Any]) -> str:
    """Return what an event says, in words, with its short name."""
    cause = f"{type}/{detail}" if detail else type
    meaning = EVENTS.get(cause) or EVENTS.get(type)
    told = [f"{name} {attributes[name]}" for name in ATTRIBUTES if _is_plain(attributes, name)]
    short = ", ".join([cause, *told])
    return f"{meaning} ({short})" if meaning else short


def _is_plain(attributes: Mapping[str, Any], name: str) -> bool:
    value = attributes.get(name)
    return isinstance(value, str | int | float) and value != ""


def since(milliseconds: float) -> str:
    """Return how long after the beginning something was, to be read in a column."""
    if abs(milliseconds) >= 1_000_000:
        return f"+{span(milliseconds / 1000)}"
    return f"{milliseconds / 1000:+.3f} s"


def span(seconds: float) -> str:
    """Return how long something takes, in two units at most."""
    if seconds < 0:
        return f"-{span(-seconds)}"
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s" if seconds < 10 else f"{seconds:.0f} s"
    for large, size, small, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {large} {seconds % size // part:.0f} {small}"
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
