# SPDX-License-Identifier: Apache-2.0
"""Compare the results of the scenarios with their rows."""

import dataclasses
from collections.abc import Mapping, Sequence

from vmmonitor.model.states import IncidentState
from vmmonitor.tests.catalogue.rows import Row

#: (cause, host, state) of an incident.
Opened = tuple[str, str, str]


@dataclasses.dataclass(kw_only=True, slots=True)
class Result:
    """The result of a row.

    :param sees: as in Row, and so are ``target_sees`` and ``besides``.
    :param incidents: incidents of each of the row's guests; the last guest is recovered.
    :param error: error that prevented the scenario; empty without one.
    """

    events: tuple[str, ...]
    target_events: tuple[str, ...]
    other_events: tuple[str, ...]
    incidents: tuple[tuple[Opened, ...], ...]
    error: str = ""


def find_differences(row: Row, result: Result) -> list[str]:
    """Return the differences between a result and its row, one sentence each."""
    if result.error:
        return [result.error]
    differences = []
    for source, expected, reported in (
        ("libvirt reports", row.events, result.events),
        ("libvirt on the target host reports", row.target_events, result.target_events),
        ("the other sources report", tuple(sorted(row.other_events)), result.other_events),
    ):
        if expected != reported:
            differences.append(f"{source} {list(reported)}, not {list(expected)}")
    expected_incidents = [(row.cause, row.host)] if row.cause else []
    for incidents in result.incidents:
        opened = [incident[:2] for incident in counted_incidents(row, incidents)]
        if opened != expected_incidents:
            differences.append(f"incidents {list(incidents)}, not {expected_incidents}")
    if row.cause and any(state != IncidentState.RESOLVED for _, _, state in result.incidents[-1]):
        differences.append(f"the incident is not resolved: {list(result.incidents[-1])}")
    return differences


def counted_incidents(row: Row, incidents: Sequence[Opened]) -> Sequence[Opened]:
    """Return the incidents without the pending incident of a planned stop.

    The end of the process opens that incident, and libvirt's event or a new start closes it.
    """
    if row.cause or len(incidents) > 1:
        return incidents
    is_started = any(cause.startswith("lifecycle.started") for cause in row.events)
    closed = (
        (IncidentState.IGNORED, IncidentState.RESOLVED) if is_started else (IncidentState.IGNORED,)
    )
    return [incident for incident in incidents if incident[2] not in closed]


def find_wrong_rows(rows: Sequence[Row], results: Mapping[str, Result]) -> dict[str, list[str]]:
    """Return row name -> differences, for the rows that have differences."""
    differences = {row.name: find_differences(row, results[row.name]) for row in rows}
    return {name: sentences for name, sentences in differences.items() if sentences}


def is_missed(row: Row, result: Result) -> bool:
    """Return whether a failure opened no incident, or only one with a different cause."""
    opened = [{incident[0] for incident in incidents} for incidents in result.incidents]
    return bool(row.cause) and not all(row.cause in causes for causes in opened)


def is_false(row: Row, result: Result) -> bool:
    """Return whether an incident opened without a failure."""
    return not row.cause and any(
        counted_incidents(row, incidents) for incidents in result.incidents
    )


def is_doubled(row: Row, result: Result) -> bool:
    """Return whether one failure opened several incidents."""
    return bool(row.cause) and any(len(incidents) > 1 for incidents in result.incidents)


def figures(rows: Sequence[Row], results: Mapping[str, Result]) -> dict[str, int]:
    """Return the number of scenarios, and the number of wrong results of each kind."""
    pairs = [(row, results[row.name]) for row in rows]
    return {
        "scenarios": len(rows),
        "missed": sum(is_missed(*pair) for pair in pairs),
        "false_positives": sum(is_false(*pair) for pair in pairs),
        "duplicates": sum(is_doubled(*pair) for pair in pairs),
    }


def table(rows: Sequence[Row], results: Mapping[str, Result]) -> str:
    """Return a text table of the scenarios with the expected and the reported incidents."""
    lines = [f"{'scenario':28}{'expected':34}{'reported':34}"]
    for row in rows:
        result = results[row.name]
        reported = _reported(result)
        mark = "" if not find_differences(row, result) else "  <- wrong"
        lines.append(f"{row.name:28}{row.cause or 'no incident':34}{reported:34}{mark}".rstrip())
    return "\n".join(lines)


def _reported(result: Result) -> str:
    if result.error:
        return "not run"
    causes = {", ".join(incident[0] for incident in each) for each in result.incidents}
    return " | ".join(sorted(names or "no incident" for names in causes))
