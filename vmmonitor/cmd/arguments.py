# SPDX-License-Identifier: Apache-2.0
"""Types of the arguments of ``vmmonitor-manage``."""

import argparse

from vmmonitor.model import identifiers


def host_name(text: str) -> str:
    """Return a host name that agents can use.

    :raises argparse.ArgumentTypeError: no host can have it.
    """
    if not identifiers.is_host_name(text):
        raise argparse.ArgumentTypeError(
            "must be the name of a host: letters, digits, periods, hyphens and underscores"
        )
    return text
