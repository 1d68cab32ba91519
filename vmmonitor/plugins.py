# SPDX-License-Identifier: Apache-2.0
"""Load plug-ins by the names of their entry points."""

from typing import Any

import stevedore
import stevedore.exception

from vmmonitor.model.errors import VmmonitorError


class NotInstalled(VmmonitorError):
    """The plug-in is not installed"""


def load(namespace: str, name: str) -> Any:
    """Return the class of a plug-in.

    :param namespace: ``vmmonitor.sources``, ``vmmonitor.expectation`` or ``vmmonitor.drivers``.
    :param name: name of the entry point.
    :raises NotInstalled: no such entry point exists, or it cannot be loaded.
    """
    try:
        return stevedore.DriverManager(
            namespace, name, on_load_failure_callback=_refuse, warn_on_missing_entrypoint=False
        ).driver
    except stevedore.exception.NoMatches as error:
        raise NotInstalled(namespace=namespace, name=name) from error


def _refuse(_loader: Any, entry_point: Any, error: BaseException) -> None:
    raise NotInstalled(f"{entry_point.name!r} cannot be loaded: {error}") from error
