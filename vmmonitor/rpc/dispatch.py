# SPDX-License-Identifier: Apache-2.0
"""Dispatch calls to the exposed methods of an endpoint, after their authentication."""

import types
from collections.abc import Callable
from typing import Any, TypeVar

import oslo_messaging
from oslo_log import log

from vmmonitor.model.errors import InvalidMessage, Retriable, VmmonitorError
from vmmonitor.rpc.guard import CallGuard

LOG = log.getLogger(__name__)

#: Maximum length of the message of an error that a caller receives, in characters.
_ERROR_LENGTH = 500

Method = TypeVar("Method", bound=Callable[..., Any])


def exposed(method: Method) -> Method:
    """Permit calls of a method of an endpoint; all other methods are refused."""
    oslo_messaging.expose(method)
    return method


class GuardedDispatcher(oslo_messaging.RPCDispatcher):
    """Authenticates each call, and signs its answer.

    An error goes back as one sentence: a traceback or an SQL statement stays in the log.
    """

    def __init__(self, endpoint: object, guard: CallGuard):
        """Create a dispatcher for one endpoint."""
        super().__init__([endpoint], None, oslo_messaging.ExplicitRPCAccessPolicy)
        self._guard = guard

    def dispatch(self, incoming: Any) -> Any:
        """Carry out a call and return the answer.

        :raises oslo_messaging.ExpectedException: the error for the caller.
        """
        method = str(incoming.message.get("method"))
        arguments = incoming.message.get("args", {})
        try:
            admission = self._guard.admit(method, incoming.ctxt, arguments)
            answer = admission.refusal
            if answer is None:
                incoming.ctxt = admission.caller
                answer = super().dispatch(incoming)
            return self._guard.sign(method, admission, answer)
        except Exception as error:
            failure = _describe_failure(method, error)
        raise _as_expected(failure)


def _describe_failure(method: str, error: Exception) -> Exception:
    """Return the error that the caller receives, and log an unexpected one."""
    if isinstance(error, oslo_messaging.RPCDispatcherError):
        LOG.warning("Call %r refused: %s", method[:100], error)
        return _without_traceback(error)
    if isinstance(error, VmmonitorError):
        LOG.debug("Call %s failed: %s", method, error)
        kind = InvalidMessage if isinstance(error, InvalidMessage) else Retriable
        return kind(_first_line(error))
    LOG.error("Call %s failed", method, exc_info=error)
    return Retriable("internal error; the log of the receiver has the details")


def _without_traceback(error: Exception) -> Exception:
    error.__traceback__ = error.__context__ = error.__cause__ = None
    return error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:_ERROR_LENGTH] if lines else type(error).__name__


def _as_expected(error: Exception) -> Exception:
    """Return an exception that makes oslo.messaging send an error without a traceback."""
    expected = oslo_messaging.ExpectedException()
    no_traceback: types.TracebackType | None = None
    expected.exc_info = (type(error), error, no_traceback)
    return expected  # type: ignore[no-any-return]
