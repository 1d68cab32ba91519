# SPDX-License-Identifier: Apache-2.0
"""Holds what came of the rows against what they say."""

import dataclasses
from collections.abc import Mapping, Sequence

from vmmonitor.model import states
from vmmonitor.tests.catalogue.rows import Row

#: (cause, host, state) of an incident.
Opened = tuple[str, str, str]


@dataclasses.dataclass(kw_only=True, slots=True)
class Result:
    """What came of a row.

    :param sees: as in Row, and so are ``target_sees`` and ``besides``.
    :param incidents: those of each of the row's guests; the last one is recovered.
    :param error: why the row could not be played; empty if it could.
    """

    sees: tuple[str, ...]
    target_sees: tuple[str, ...]
    besides: tuple[str, ...]
    incidents: tuple[tuple[Opened, ...], ...]
    error: str = ""


def wrong(row: Row, result: Result) -> list[str]:
    """Return what is not as the row says, a sentence each."""
    if result.error:
        return [result.error]
    said = []
    for what, expected, seen in (
        ("libvirt tells", row.sees, result.sees),
        ("libvirt on the target host tells", row.target_sees, result.target_sees),
        ("the other sources tell", tuple(sorted(row.besides)), result.besides),
    ):
        if expected != seen:
            said.append(f"{what} {list(seen)}, not {list(expected)}")
    expected_incidents = [(row.cause, row.host)] if row.cause else []
    for incidents in result.incidents:
        if [one[:2] for one in counted(row, incidents)] != expected_incidents:
            said.append(f"incidents {list(incidents)}, not {expected_incidents}")
    if row.cause and any(state != states.RESOLVED for _, _, state in result.incidents[-1]):
        said.append(f"it is not resolved: {list(result.incidents[-1])}")
    return said


def counted(row: Row, incidents: Sequence[Opened]) -> Sequence[Opened]:
    """Return the incidents that count: not the one of a planned end, which is pending from the
    end of the process until libvirt's word, and over by that or by a new start."""
    if row.cause or len(incidents) > 1:
        return incidents
    starts = any(cause.startswith("lifecycle.started") for cause in row.sees)
    over = (states.IGNORED, states.RESOLVED) if starts else (states.IGNORED,)
    return [one for one in incidents if one[2] not in over]


def wrong_rows(rows: Sequence[Row], results: Mapping[str, Result]) -> dict[str, list[str]]:
    """Return what is wrong, by the names of the rows."""
    said = {row.name: wrong(row, results[row.name]) for row in rows}
    return {name: sentences for name, sentences in said.items() if sentences}


def is_missed(row: Row, result: Result) -> bool:
    """Whether a failure opened no incident, or one that names another cause."""
    named = [{one[0] for one in incidents} for incidents in result.incidents]
    return bool(row.cause) and not all(row.cause in causes for causes in named)


def is_false(row: Row, result: Result) -> bool:
    """Whether what is no failure opened an incident."""
    return not row.cause and any(counted(row, incidents) for incidents in result.incidents)


def is_doubled(row: Row, result: Result) -> bool:
    """Whether one failure opened several incidents."""
    return bool(row.cause) and any(len(incidents) > 1 for incidents in result.incidents)


def figures(rows: Sequence[Row], results: Mapping[str, Result]) -> dict[str, int]:
    """Return how many scenarios there were, and how many of them went wrong in which way."""
    pairs = [(row, results[row.name]) for row in rows]
    return {
        "scenarios": len(rows),
        "missed": sum(is_missed(*pair) for pair in pairs),
        "false_positives": sum(is_false(*pair) for pair in pairs),
        "duplicates": sum(is_doubled(*pair) for pair in pairs),
    }


def table(rows: Sequence[Row], results: Mapping[str, Result]) -> str:
    """Return scenario, expected and seen, a line each."""
    lines = [f"{'scenario':28}{'expected':34}{'seen':34}"]
    for row in rows:
        result = results[row.name]
        seen = _seen(result)
        mark = "" if not wrong(row, result) else "  <- wrong"
        lines.append(f"{row.name:28}{row.cause or 'no incident':34}{seen:34}{mark}".rstrip())
    return "\n".join(lines)


def _seen(result: Result) -> str:
    if result.error:
        return "not played"
    each = {", ".join(one[0] for one in incidents) for incidents in result.incidents}
    return " | ".join(sorted(words or "no incident" for words in each))
