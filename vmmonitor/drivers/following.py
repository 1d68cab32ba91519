# SPDX-License-Identifier: Apache-2.0
"""What drivers have in common that ask another service and follow what it does."""

import time
from collections.abc import Callable, Mapping

from vmmonitor.model.errors import Retriable
from vmmonitor.model.recovery import Outcome
from vmmonitor.openstack.service import Answer

#: Seconds before the second look; each further pause is twice as long.
FIRST_PAUSE = 0.25
#: Seconds that a question gets at least.
LEAST = 0.1
#: Characters of what a service said.
EXCERPT = 300


class Deadline:
    """The end of the time that a driver may take."""

    def __init__(self, seconds: float):
        """Begin now."""
        self._until = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds for one more question."""
        return max(self._until - time.monotonic(), LEAST)

    def pause(self, seconds: float) -> bool:
        """Wait so long; False, and at once, if that would be too long."""
        if time.monotonic() + seconds >= self._until:
            return False
        time.sleep(seconds)
        return True


def follow(
    look: Callable[[], Outcome | None], deadline: Deadline, interval: float
) -> Outcome | None:
    """Look again and again until there is an outcome; None if there is none by the deadline.

    A service that does not answer may just be restarting: it is asked again.

    :param interval: greatest number of seconds between two looks.
    :raises vmmonitor.model.errors.Retriable: the last look had no answer.
    """
    pause = min(FIRST_PAUSE, interval)
    while True:
        trouble: Retriable | None = None
        try:
            if outcome := look():
                return outcome
        except Retriable as error:
            trouble = error
        if not deadline.pause(pause):
            if trouble:
                raise trouble
            return None
        pause = min(2 * pause, interval)


def failed(message: str, retry: bool = False) -> Outcome:
    """Return a failure; ``retry`` says whether trying the same again makes sense."""
    return Outcome(move="fail", message=message, retry=retry)


def refused(service: str, answer: Answer) -> Outcome:
    """Return the failure that an answer is which nobody hoped for.

    :param service: its name, which is that of its group of options.
    """
    retry = answer.status == 429 or answer.status >= 500
    return failed(f"{service} {complaint(service, answer)}", retry=retry)


def complaint(service: str, answer: Answer) -> str:
    """Return what an answer says that is not a good one, and what to look at.

    :param service: as above.
    """
    words = said(answer)
    hints = {
        401: f"the account of [{service}] is not accepted",
        403: f"the account of [{service}] lacks a role",
    }
    if answer.status == 404 and not words:
        words = f"is that its address? See [{service}] endpoint_override and keystone's catalog"
    parts = [f"answers {answer.status}", hints.get(answer.status, ""), words]
    return ": ".join(part for part in parts if part)


def said(answer: Answer) -> str:
    """Return the words of an answer that is an error; empty if there are none."""
    words = [answer.body.get("faultstring")]
    words += [part.get("message") for part in answer.body.values() if isinstance(part, Mapping)]
    return excerpt(next((word for word in words if isinstance(word, str)), ""))


def excerpt(text: str) -> str:
    """Return the start of a text in printable characters, on one line."""
    spaced = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(spaced.split())[:EXCERPT]
