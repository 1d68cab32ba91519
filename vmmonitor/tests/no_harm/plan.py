# SPDX-License-Identifier: Apache-2.0
"""Draw the actions of a round from a seed; the same seed gives the same actions."""

import dataclasses
import random
from collections.abc import Sequence

#: Parts that can be stalled and killed.
PARTS = (
    "agent-1",
    "agent-2",
    "engine-1",
    "engine-2",
    "libvirtd-1",
    "libvirtd-2",
    "rabbitmq",
    "mariadb",
)
#: Weights of the parts: RabbitMQ and MariaDB need long to start again.
STALL_WEIGHTS = (4, 4, 4, 4, 4, 4, 2, 2)
KILL_WEIGHTS = (4, 4, 4, 4, 4, 4, 1, 1)
KILL_SHARE = 0.25
#: Operations of an owner. ``toggle`` stops a running guest and starts a stopped one; ``move``
#: stops it, and starts it on the other host.
OPERATIONS = ("toggle", "toggle", "migrate", "move")
#: Shortest stall, in seconds.
SHORTEST_S = 0.3
#: Maximum time until a killed part is started again, in seconds.
LONGEST_ABSENCE_S = 2.0
#: The actions begin within this time, in seconds.
ROUND_S = 2.5


@dataclasses.dataclass(frozen=True, order=True)
class Action:
    """One action of a round.

    :param at: offset from the begin of the round, in seconds.
    :param kind: ``stall`` or ``kill`` of a part, ``fail`` of a guest, or one of OPERATIONS.
    :param target: name of the part, or number of the guest.
    :param duration: duration of a stall, or time until a killed part is started, in seconds.
    """

    at: float
    kind: str
    target: str
    duration: float = 0.0

    def __str__(self) -> str:
        lasts = f" for {self.duration:.2f} s" if self.duration else ""
        return f"+{self.at:.2f} s: {self.kind} {self.target}{lasts}"


def draw_round(seed: int, number: int, guests: int, longest: float) -> Sequence[Action]:
    """Return the actions of a round, in the order of their offsets.

    :param seed: seed of all rounds.
    :param number: number of the round; a round does not depend on the rounds before it.
    :param guests: number of guests.
    :param longest: longest stall, in seconds.
    """
    dice = random.Random(f"{seed}/{number}")
    order = [str(guest) for guest in dice.sample(range(guests), guests)]
    failing = order[: dice.randint(1, max(1, guests // 2))]
    actions = [_draw_fault(dice, longest) for _ in range(dice.choice((1, 1, 2)))]
    actions += [Action(dice.uniform(0.3, 1.0), "fail", guest) for guest in failing]
    for guest in order:
        # During the recovery of a guest that failed, or at any time.
        chance, earliest = (0.5, 0.5) if guest in failing else (0.4, 0.0)
        if dice.random() < chance:
            at = dice.uniform(earliest, ROUND_S)
            actions.append(Action(at, dice.choice(OPERATIONS), guest))
    if dice.random() < 0.3:
        # The guest that was just recovered, or is being migrated, fails.
        actions.append(Action(dice.uniform(1.0, ROUND_S), "fail", dice.choice(order)))
    return sorted(actions)


def _draw_fault(dice: random.Random, longest: float) -> Action:
    at = dice.uniform(0.0, 0.7 * ROUND_S)
    if dice.random() < KILL_SHARE:
        (part,) = dice.choices(PARTS, KILL_WEIGHTS)
        return Action(at, "kill", part, dice.uniform(0.1, LONGEST_ABSENCE_S))
    (part,) = dice.choices(PARTS, STALL_WEIGHTS)
    # Each order of magnitude is as likely as the next.
    duration = SHORTEST_S * (longest / SHORTEST_S) ** dice.random()
    return Action(at, "stall", part, duration)
