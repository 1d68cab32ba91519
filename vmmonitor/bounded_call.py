# SPDX-License-Identifier: Apache-2.0
"""Calls that may hang: each runs in its own thread, and the caller waits only for a limited time.

Example::

    calls = BoundedCalls(limit=4)
    try:
        verdict = calls.call("expectation", ask_nova, timeout=30.0)
    except CallUnfinished as error:
        LOG.warning("No verdict: %s", error)

A call that hangs keeps its thread and its place among the ``limit`` until it returns, so a service
that never answers costs a bounded number of threads (the bulkhead pattern).
"""

import concurrent.futures
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


class CallUnfinished(Exception):
    """The call has no result."""


class CallTimeout(CallUnfinished):
    """The call did not return in time; it continues in its thread."""


class TooManyCalls(CallUnfinished):
    """The call was not made: earlier calls that have not returned use up the limit."""


class BoundedCalls:
    """Runs calls in daemon threads, with a limit on the calls in progress."""

    def __init__(self, limit: int):
        """Start without any call in progress.

        :param limit: maximum number of calls in progress, hung calls included.
        """
        self.limit = limit
        self._free = threading.BoundedSemaphore(limit)

    def call(self, name: str, function: Callable[[], Result], timeout: float) -> Result:
        """Return the result of a function, or raise its exception.

        :param name: name of the thread.
        :param timeout: maximum time to wait, in seconds.
        :raises CallTimeout: the function did not return in time.
        :raises TooManyCalls: ``limit`` earlier calls are still in progress.
        """
        future = self.begin(name, function)
        if not concurrent.futures.wait([future], timeout).done:
            raise CallTimeout(f"no answer within {timeout:g} s")
        return future.result()

    def begin(
        self, name: str, function: Callable[[], Result]
    ) -> "concurrent.futures.Future[Result]":
        """Start a call and return its future.

        :param name: name of the thread.
        :raises TooManyCalls: ``limit`` earlier calls are still in progress.
        """
        if not self._free.acquire(blocking=False):
            raise TooManyCalls(f"{self.limit} earlier calls have not returned")
        future: concurrent.futures.Future[Result] = concurrent.futures.Future()

        def run() -> None:
            try:
                result = function()
            except BaseException as error:
                self._free.release()
                future.set_exception(error)
            else:
                self._free.release()
                future.set_result(result)

        try:
            threading.Thread(target=run, name=name, daemon=True).start()
        except RuntimeError:
            self._free.release()
            raise
        return future
