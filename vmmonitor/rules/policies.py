# SPDX-License-Identifier: Apache-2.0
"""Read recovery policies: how long to wait, which drivers to call, and how often."""

import dataclasses
import enum
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from vmmonitor.model.errors import InvalidRules
from vmmonitor.model.event import Event
from vmmonitor.rules import document, ruleset, schema_errors, schemas
from vmmonitor.rules.document import Document, Path, Problem
from vmmonitor.rules.ruleset import RuleSet, Trial

#: ``attempts`` of a step that is repeated until it succeeds.
WITHOUT_LIMIT = -1

#: Length of the checksum of a step's options, in hexadecimal digits.
CHECKSUM_LENGTH = 12


class WaitCondition(enum.StrEnum):
    """The condition for success after a driver has been called."""

    #: The agent reports that the instance runs.
    RUNNING = "running"
    #: The expectation (nova) reports that the instance is active.
    ACTIVE = "active"
    #: No condition: the answer of the driver is enough.
    NOTHING = "nothing"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Backoff:
    """The delay between attempts of a step.

    :param initial: delay after the first failed attempt, in seconds.
    :param factor: growth of each further delay; at least 1.
    :param max: maximum delay, in seconds.
    :param jitter: maximum fraction, 0 to 1, of a delay that is subtracted at random, so that many
        instances are not recovered at the same moment.
    """

    initial: float = 2.0
    factor: float = 2.0
    max: float = 60.0
    jitter: float = 0.1

    def delay(self, attempt: int, random: float) -> float:
        """Return the delay after a failed attempt, in seconds.

        :param attempt: number of the failed attempt, from 1.
        :param random: random number from 0 (no jitter) to 1.
        """
        try:
            grown = self.initial * float(self.factor) ** (attempt - 1)
        except OverflowError:
            grown = self.max if self.initial else 0.0
        return min(grown, self.max) * (1.0 - self.jitter * random)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PolicyStep:
    """One step of a policy: a driver and how often to call it.

    :param driver: entry point name of the recovery driver.
    :param enabled: False skips the step.
    :param attempts: maximum number of attempts; with WITHOUT_LIMIT the next step never runs.
    :param timeout: maximum duration of one call of the driver, in seconds.
    :param wait_for: condition for success after the call.
    :param wait: maximum time until that condition, in seconds.
    :param dry_run: record the attempt as skipped without calling the driver, and go on to the
        next step.
    :param options: options of the driver.
    """

    driver: str
    enabled: bool = True
    attempts: int = 3
    timeout: float = 30.0
    wait_for: WaitCondition = WaitCondition.RUNNING
    wait: float = 60.0
    backoff: Backoff = dataclasses.field(default_factory=Backoff)
    dry_run: bool = False
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """The reaction to an incident.

    :param hold: delay before the first verdict, in seconds, for failures that turn out to be
        planned or that end without help.
    :param steps: steps in order; without steps the incident is left to an operator.
    :param dry_run: record the attempts as skipped without calling any driver.
    :param max_restarts: maximum number of failures of one instance within ``restart_window`` that
        are recovered, or WITHOUT_LIMIT; None for the engine's option.
    :param restart_window: period of ``max_restarts``, in seconds; None for the engine's option.
    """

    name: str
    hold: float = 0.0
    steps: tuple[PolicyStep, ...] = ()
    dry_run: bool = False
    max_restarts: int | None = None
    restart_window: float | None = None

    @property
    def enabled_steps(self) -> tuple[PolicyStep, ...]:
        """The steps that can run."""
        return tuple(step for step in self.steps if step.enabled)


class Policies:
    """The policies of one file.

    :ivar path: path of the file.
    :ivar checksum: SHA-256 of the file's bytes, in hex.
    :ivar rows: policies in order, with their matches.
    :ivar unused_step_lists: names of the step lists that no policy refers to.
    """

    def __init__(
        self,
        path: str,
        checksum: str,
        rules: RuleSet[Policy],
        unused_step_lists: Sequence[str] = (),
    ):
        """Create the policies that ``load`` read."""
        self.path = path
        self.checksum = checksum
        self.rows = rules.rows
        self.unused_step_lists = tuple(unused_step_lists)
        self._rules = rules
        self._by_name = {row.name: row.value for row in self.rows}

    def choose(self, event: Event) -> Policy | None:
        """Return the first policy that matches the event that opened an incident, or None."""
        return self._rules.first(event)

    def get(self, name: str) -> Policy | None:
        """Return the policy with this name, or None if the file has none."""
        return self._by_name.get(name)

    def explain(self, event: Event) -> list[Trial]:
        """Return the result of each policy that was tried, in order, up to the first match."""
        return self._rules.explain(event)


def load(path: str, check: Callable[[PolicyStep], None] | None = None) -> Policies:
    """Read a policy file.

    :param check: raises InvalidRules for a step that its driver cannot run. For an invalid
        option, the option's name is the fact ``option``.
    :raises vmmonitor.model.errors.InvalidRules: the message gives file, line and reason of each
        error in the file.
    """
    read = document.read(path)
    schemas.check(read, schemas.POLICIES)
    if problems := [*_reference_problems(read)]:
        raise document.invalid(path, problems)
    step_lists = read.value.get("step_lists", {})
    rules = ruleset.build(read, "policies", lambda row: _policy(row, step_lists))
    if check and (problems := [*_step_problems(read, check)]):
        raise document.invalid(path, problems)
    used = {step for row in read.value["policies"] for step in row["steps"] if _is_name(step)}
    return Policies(path, read.checksum, rules, [name for name in step_lists if name not in used])


def _is_name(step: Any) -> bool:
    """Return whether an item of ``steps`` refers to a step list."""
    return isinstance(step, str)


def _reference_problems(read: Document) -> Iterator[Problem]:
    """Yield the problems with references to step lists."""
    step_lists: Mapping[str, Any] = read.value.get("step_lists", {})
    for name, steps in step_lists.items():
        for index, step in enumerate(steps):
            if _is_name(step):
                reason = (
                    f"step_lists.{name}[{index}]: a step list must contain steps, not the name "
                    f"of another step list ({step[:100]!r})"
                )
                yield read.problem(("step_lists", name, index), reason)
    for number, row in enumerate(read.value["policies"]):
        place = f"policies[{number}].steps"
        for index, step in enumerate(row["steps"]):
            if _is_name(step) and step not in step_lists:
                known = f"; known are {', '.join(step_lists)}" if step_lists else ""
                reason = f"{place}[{index}]: unknown step list {step[:100]!r}"
                reason += schema_errors.suggestion(step, step_lists) or known
                yield read.problem(("policies", number, "steps", index), reason)
        total = sum(
            len(step_lists.get(step, ())) if _is_name(step) else 1 for step in row["steps"]
        )
        if total > schemas.MAX_STEPS:
            reason = (
                f"{place}: has {total} steps with its step lists inserted; the maximum is "
                f"{schemas.MAX_STEPS}"
            )
            yield read.problem(("policies", number, "steps"), reason)


def _step_problems(read: Document, check: Callable[[PolicyStep], None]) -> Iterator[Problem]:
    """Yield the problems that ``check`` raises, once for each step that the file defines."""
    defined = [
        *(
            (f"step list {name}", ("step_lists", name))
            for name in read.value.get("step_lists", ())
        ),
        *(
            (f"policy {row['name']}", ("policies", number, "steps"))
            for number, row in enumerate(read.value["policies"])
        ),
    ]
    for owner, path in defined:
        steps: Any = read.value
        for key in path:
            steps = steps[key]
        for index, step in enumerate(steps):
            if _is_name(step):
                continue
            try:
                check(_step(step))
            except InvalidRules as error:
                place = _place_of(read, (*path, index), error.facts.get("option"))
                yield read.problem(place, f"{owner}: {error}")


def _place_of(read: Document, step: Path, option: str | None) -> Path:
    """Return the path of an option of a step, or of the nearest part that the file contains."""
    place = (*step, "driver") if option is None else (*step, "options", option)
    while place not in read.places:
        place = place[:-1]
    return place


def _policy(row: Mapping[str, Any], step_lists: Mapping[str, Sequence[Any]]) -> Policy:
    steps: list[Mapping[str, Any]] = []
    for step in row["steps"]:
        steps += step_lists[step] if _is_name(step) else [step]
    return Policy(
        name=row["name"],
        hold=float(row.get("hold", 0)),
        steps=tuple(_step(step) for step in steps),
        dry_run=row.get("dry_run", False),
        **row.get("limits", {}),
    )


def _step(row: Mapping[str, Any]) -> PolicyStep:
    given = dict(row)
    backoff = {name: float(value) for name, value in given.pop("backoff", {}).items()}
    for name in ("timeout", "wait"):
        if name in given:
            given[name] = float(given[name])
    if "wait_for" in given:
        given["wait_for"] = WaitCondition(given["wait_for"])
    return PolicyStep(**given, backoff=Backoff(**backoff))


def describe(policy: Policy | None) -> dict[str, Any]:
    """Return a policy as JSON values without its name, for the timeline of an incident.

    The options of drivers may contain secrets, so each step has a checksum of its options
    instead; the checksum of no options is ''.

    :param policy: None stands for a policy without steps.
    """
    described = dataclasses.asdict(policy or Policy(name=""))
    del described["name"]
    described["steps"] = [
        {**step, "options": _checksum(step["options"])} for step in described["steps"]
    ]
    return described


def _checksum(options: Mapping[str, Any]) -> str:
    if not options:
        return ""
    text = json.dumps(options, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:CHECKSUM_LENGTH]
