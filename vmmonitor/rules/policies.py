# SPDX-License-Identifier: Apache-2.0
"""The recovery policies: after which hold, by which driver, how often."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from vmmonitor.model.errors import InvalidRules
from vmmonitor.model.event import Event
from vmmonitor.rules import document, ordered, schemas
from vmmonitor.rules.document import Document, Problem
from vmmonitor.rules.ordered import Rows, Trial

#: The attempts of a step that is tried until it works.
WITHOUT_LIMIT = -1

RUNNING = "running"
ACTIVE = "active"
NOTHING = "nothing"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Backoff:
    """How long to wait between two attempts of a step.

    :param initial: seconds after the first attempt.
    :param factor: by which each further one grows; at least 1.
    :param max: seconds that it never exceeds.
    :param jitter: fraction, 0 to 1, that chance may take off, so that many do not act at once.
    """

    initial: float = 2.0
    factor: float = 2.0
    max: float = 60.0
    jitter: float = 0.1

    def delay(self, attempt: int, random: float) -> float:
        """Return the seconds to wait after a failed attempt.

        :param attempt: number of the attempt that failed, from 1.
        :param random: chance, from 0 (no jitter) to 1.
        """
        try:
            grown = self.initial * float(self.factor) ** (attempt - 1)
        except OverflowError:
            grown = self.max if self.initial else 0.0
        return min(grown, self.max) * (1.0 - self.jitter * random)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PolicyStep:
    """One way to bring an instance back, and how often to try it.

    :param driver: entry point name of the recovery driver.
    :param attempts: how often; 0 skips the step, WITHOUT_LIMIT never goes on to the next one.
    :param timeout: seconds that the driver may take.
    :param wait_for: RUNNING: the driver's word is not enough, the agent must see the instance
        run again; ACTIVE: the expectation (nova) must say so; NOTHING: it is enough.
    :param wait: seconds in which it must be seen running.
    :param dry_run: what would be called is recorded, and the next step is gone on to.
    :param options: what the driver is told about how to do it; each driver knows its own.
    """

    driver: str
    attempts: int = 3
    timeout: float = 30.0
    wait_for: str = RUNNING
    wait: float = 60.0
    backoff: Backoff = dataclasses.field(default_factory=Backoff)
    dry_run: bool = False
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """What is done about an incident.

    :param hold: seconds before anything is done, in case it was planned or heals by itself.
    :param steps: tried in order; none: the incident is left open for a person.
    :param dry_run: what would be called is recorded, and the incident left open.
    :param max_restarts: failures of one instance that are acted upon within ``restart_window``;
        None: as the options of the engine say; WITHOUT_LIMIT.
    :param restart_window: seconds; None: as the options say.
    """

    name: str
    hold: float = 0.0
    steps: tuple[PolicyStep, ...] = ()
    dry_run: bool = False
    max_restarts: int | None = None
    restart_window: float | None = None


class Policies:
    """The policies of one file.

    :ivar path: the file.
    :ivar checksum: SHA-256 of the file's bytes, in hex.
    :ivar rows: its policies in order, with what they match.
    """

    def __init__(self, path: str, checksum: str, rows: Rows[Policy]):
        """Keep what ``load`` read."""
        self.path = path
        self.checksum = checksum
        self.rows = rows.rows
        self._ordered = rows
        self._by_name = {row.name: row.value for row in self.rows}

    def choose(self, event: Event) -> Policy | None:
        """Return the policy for an incident that this event opened; None if there is none."""
        return self._ordered.first(event)

    def get(self, name: str) -> Policy | None:
        """Return the policy of this name; None if there is none (any more)."""
        return self._by_name.get(name)

    def explain(self, event: Event) -> list[Trial]:
        """Return how every policy did that was tried, in order; the last one may have matched."""
        return self._ordered.explain(event)


def load(path: str, check: Callable[[PolicyStep], None] | None = None) -> Policies:
    """Read a file of recovery policies.

    :param check: raises InvalidRules of a step that its driver cannot do; if it is an option
        that is wrong, with the option's name as the fact ``option``.
    :raises vmmonitor.model.errors.InvalidRules: the message names file, line and reason of
        everything that is wrong with it.
    """
    read = document.read(path)
    schemas.check(read, schemas.POLICIES)
    loaded = Policies(path, read.checksum, ordered.build(read, "policies", _policy))
    if check and (problems := _problems(read, loaded, check)):
        raise document.invalid(path, problems)
    return loaded


def _problems(
    read: Document, loaded: Policies, check: Callable[[PolicyStep], None]
) -> list[Problem]:
    problems = []
    for number, row in enumerate(loaded.rows):
        for index, step in enumerate(row.value.steps):
            try:
                check(step)
            except InvalidRules as error:
                option = error.facts.get("option")
                what = ("driver",) if option is None else ("options", option)
                place = ("policies", number, "steps", index, *what)
                # An option that is missing stands nowhere.
                while place not in read.places:
                    place = place[:-1]
                problems.append(read.problem(place, f"policy {row.name}: {error}"))
    return problems


def _policy(row: Mapping[str, Any]) -> Policy:
    steps = tuple(_step(step) for step in row["steps"])
    return Policy(
        name=row["name"],
        hold=float(row.get("hold", 0)),
        steps=steps,
        dry_run=row.get("dry_run", False),
        **row.get("limits", {}),
    )


def _step(row: Mapping[str, Any]) -> PolicyStep:
    given = dict(row)
    backoff = {name: float(value) for name, value in given.pop("backoff", {}).items()}
    for name in ("timeout", "wait"):
        if name in given:
            given[name] = float(given[name])
    return PolicyStep(**given, backoff=Backoff(**backoff))
