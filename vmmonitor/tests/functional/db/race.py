# SPDX-License-Identifier: Apache-2.0
"""Threads that do the same thing at the same moment."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def race(count: int, function: Callable[[int], Any]) -> list[Any]:
    """Call ``function(number)`` in ``count`` threads at once.

    :return: what each returned or, if it raised, the exception; by number.
    """
    start = threading.Barrier(count)

    def run(number: int) -> Any:
        start.wait()
        try:
            return function(number)
        except Exception as error:
            return error

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(run, range(count)))
