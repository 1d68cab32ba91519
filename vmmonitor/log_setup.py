# SPDX-License-Identifier: Apache-2.0
"""Set up logging so that a logged name cannot forge lines or control a terminal."""

import copy
import logging
import re

from oslo_config import cfg
from oslo_log import log

#: Control characters of ASCII and of ISO 8859, and the line and paragraph separators.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
#: The same without the line feed, which separates the lines of a traceback.
_CONTROL_IN_LINE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")


class EscapingFormatter(logging.Formatter):
    """Escapes control characters in the output of another formatter (``\\x1b``, ``\\n``)."""

    def __init__(self, inner: logging.Formatter):
        """Store the formatter whose output is escaped."""
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """Return the formatted record: its message is one line, a traceback keeps its lines."""
        escaped = copy.copy(record)
        escaped.msg, escaped.args = _CONTROL.sub(_escape, record.getMessage()), ()
        return _CONTROL_IN_LINE.sub(_escape, self._inner.format(escaped))


def setup(conf: cfg.ConfigOpts) -> None:
    """Set up the log of a program.

    :raises oslo_log.log.LogConfigError: ``log_config_append`` is invalid.
    """
    log.setup(conf, "vmmonitor")
    for handler in logging.getLogger().handlers:
        handler.setFormatter(EscapingFormatter(handler.formatter or logging.Formatter()))


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
