# SPDX-License-Identifier: Apache-2.0
"""Sentences for the identifiers of the API: causes, states, hold reasons and outcomes."""

from collections.abc import Mapping
from typing import Any

#: Cause, or only the type, of an event -> meaning.
_EVENTS = {
    "lifecycle.stopped/failed": "its QEMU process was killed or crashed",
    "lifecycle.stopped/crashed": "it was stopped because its guest crashed",
    "lifecycle.stopped/shutdown": "it was shut down",
    "lifecycle.stopped/destroyed": "it was powered off by force",
    "lifecycle.stopped/saved": "it was saved to disk",
    "lifecycle.stopped/migrated": "it was migrated to another host",
    "lifecycle.stopped/vanished": "it disappeared while the agent had no connection",
    "lifecycle.stopped/unknown": "it stopped, libvirt reports no cause",
    "lifecycle.stopped/daemon": "libvirt dropped it when it reconnected",
    "lifecycle.stopped": "it stopped",
    "lifecycle.shutdown": "it is shutting down",
    "lifecycle.crashed/panicked": "its guest kernel panicked",
    "lifecycle.crashed/crashloaded": "its guest runs its crash kernel",
    "lifecycle.crashed": "its guest crashed",
    "lifecycle.suspended/ioerror": "it was paused by a storage error",
    "lifecycle.suspended/watchdog": "it was paused by its watchdog, its guest hangs",
    "lifecycle.suspended/migrated": "it was paused for a migration",
    "lifecycle.suspended": "it was paused",
    "lifecycle.resumed": "it was resumed",
    "lifecycle.started": "it was started",
    "lifecycle.pmsuspended": "its guest was suspended",
    "lifecycle.defined": "its definition was changed",
    "lifecycle.undefined": "its definition was removed",
    "process.exited": "its QEMU process ended, the cause is not reported yet",
    "libvirt.lost": "libvirt no longer manages it, but its QEMU process still runs",
    "io_error": "one of its disks failed",
    "io_error_reason": "one of its disks failed",
    "block_io_error": "one of its disks failed",
    "watchdog": "its watchdog expired",
    "reboot": "its guest rebooted",
    "liveness.hung": "its QEMU process does not respond",
    "liveness.stalled/failed": "its guest makes no progress",
    "liveness.stalled": "its guest may make no progress",
    "liveness.paused": "it was found paused",
    "liveness.recovered": "it responds again",
    "liveness.cleared": "an earlier finding has cleared",
    "recovery.ending": "the agent terminates it to start it again",
    "recovery.running": "the agent found it running",
    "reconcile.missing": "it should run, but its host does not have it",
    "reconcile.not_running": "it should run, but it is stopped",
    "reconcile.paused": "it should run, but it is paused",
    "reconcile.unexpected": "it runs, but it should not",
    "reconcile.two_hosts": "it runs on two hosts at once",
    "reconcile.wrong_host": "it runs on another host than expected",
    "reconcile.agrees": "it is in its desired state again",
    "agent.late": "the agent of the host does not report",
    "agent.blind": "the agent of the host has no connection to libvirt",
}

#: Attributes to show beside the meaning of an event, in this order.
ATTRIBUTES = ("device", "path", "reason", "shutdown_by", "by_user")

#: Outcome of the filter -> meaning.
OUTCOMES = {"incident": "opens an incident", "record": "only records it"}

#: New state of an incident -> meaning of the transition.
TRANSITIONS = {
    "pending": "it waits for a verdict",
    "unhandled": "an operator must act",
    "recovering": "its recovery starts",
    "held": "its recovery waits",
    "silenced": "a silence applies",
    "resolved": "the incident is closed",
    "unrecovered": "its recovery has failed",
    "ignored": "no recovery is needed",
}

#: State of a recovery -> text after "attempt" or "driver ...,".
ATTEMPTS = {
    "requested": "is scheduled",
    "running": "is running",
    "waiting": "is complete, and waits until the instance is running",
    "succeeded": "succeeded",
    "failed": "failed",
    "skipped": "was skipped, there was nothing to recover",
    "cancelled": "was cancelled",
}

#: State of an incident -> rest of the headline after the name of the instance.
INSTANCE_STATES = {
    "pending": "is waiting for a verdict.",
    "unhandled": "HAS FAILED AND IS NOT RECOVERED: an operator must act.",
    "recovering": "is being recovered.",
    "held": "IS HELD: it is not recovered for now.",
    "silenced": "is silenced: its failure is recorded, but not recovered for now.",
    "unrecovered": "COULD NOT BE RECOVERED: each attempt failed, an operator must act.",
    "ignored": "is ignored: it did not fail, or there is nothing to recover.",
    "resolved": "is running again.",
}
#: The same for an incident that was resolved although the instance was not seen running.
RESOLVED_WITHOUT_RUNNING = "is no longer an issue: its incident was resolved."
HOST_STATES = {
    "unhandled": "IS NOT MONITORED: failures on it are not detected.",
    "resolved": "is monitored again.",
}
STORM = {
    "unhandled": "is active.",
    "held": "is active: its instances are held until it ends or is released.",
    "resolved": "is over.",
}

#: Hold reason -> meaning.
HOLD_REASONS = {
    "unknown": "the verdict is still unknown",
    "silence": "a silence",
    "maintenance": "maintenance of its host",
    "storm": "a storm: too many instances failed at once",
    "budget": "its restart budget: it was recovered too often recently",
    "flapping": "flapping: it fails repeatedly",
    "concurrency": "the concurrency limit: other recoveries run first",
    "operator": "an operator",
}


def describe_event(type: str, detail: str, attributes: Mapping[str, Any]) -> str:
    """Return the meaning of an event, followed by its cause and important attributes.

    Return only the latter if the cause is unknown to this version.
    """
    cause = f"{type}/{detail}" if detail else type
    meaning = _EVENTS.get(cause) or _EVENTS.get(type)
    shown = [f"{name} {attributes[name]}" for name in ATTRIBUTES if _is_plain(attributes, name)]
    short = ", ".join([cause, *shown])
    return f"{meaning} ({short})" if meaning else short


def _is_plain(attributes: Mapping[str, Any], name: str) -> bool:
    value = attributes.get(name)
    return isinstance(value, str | int | float) and value != ""


def format_offset(milliseconds: float) -> str:
    """Return the time since the beginning of an incident, for a column."""
    if abs(milliseconds) >= 1_000_000:
        return f"+{format_seconds(milliseconds / 1000)}"
    return f"{milliseconds / 1000:+.3f} s"


def format_seconds(seconds: float) -> str:
    """Return a duration in at most two units, for example ``2 h 5 min`` or ``98 ms``."""
    if seconds < 0:
        return f"-{format_seconds(-seconds)}"
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s" if seconds < 10 else f"{seconds:.0f} s"
    for large, size, small, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {large} {seconds % size // part:.0f} {small}"
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
