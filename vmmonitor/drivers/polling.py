# SPDX-License-Identifier: Apache-2.0
"""Shared parts of drivers that call another service: deadlines, polling and failures."""

import socket
import ssl
import time
import urllib.parse
from collections.abc import Callable, Mapping

import requests

from vmmonitor.model.errors import Retriable
from vmmonitor.model.recovery import Lease, Outcome
from vmmonitor.model.states import RecoveryTransition
from vmmonitor.openstack.service import ServiceResponse
from vmmonitor.text import one_line

#: Delay before the second poll, in seconds; each further delay is twice as long.
FIRST_DELAY = 0.25
#: Minimum timeout of a request, in seconds.
MIN_TIMEOUT = 0.1
#: Timeout of a request of a health check, in seconds.
CHECK_TIMEOUT = 10.0
#: Maximum length of a service's text in a message.
MAX_EXCERPT = 300
DEFAULT_PORTS = {"http": 80, "https": 443}


class Deadline:
    """The time limit of a driver."""

    def __init__(self, seconds: float):
        """Set the deadline.

        :param seconds: duration from now.
        """
        self._until = time.monotonic() + seconds

    def remaining(self) -> float:
        """Return the timeout of one more request, in seconds."""
        return max(self._until - time.monotonic(), MIN_TIMEOUT)

    def sleep(self, seconds: float) -> bool:
        """Sleep, unless that would exceed the deadline; return whether it slept."""
        if time.monotonic() + seconds >= self._until:
            return False
        time.sleep(seconds)
        return True


def poll(
    check: Callable[[], Outcome | None],
    deadline: Deadline,
    interval: float,
    lease: Lease | None = None,
) -> Outcome | None:
    """Call a function repeatedly until it returns an outcome, or return None at the deadline.

    A service that does not respond may be restarting, so that an error does not end the polling.

    :param interval: maximum interval, in seconds.
    :param lease: the polling ends with a failure if it is lost.
    :raises vmmonitor.model.errors.Retriable: the last call failed.
    """
    delay = min(FIRST_DELAY, interval)
    while True:
        if lease and not lease.is_held():
            return lost_lease()
        failure: Retriable | None = None
        try:
            if outcome := check():
                return outcome
        except Retriable as error:
            failure = error
        if not deadline.sleep(delay):
            if failure:
                raise failure
            return None
        delay = min(2 * delay, interval)


def fail(message: str, retry: bool = False, answered: bool = True) -> Outcome:
    """Return the outcome of a failed attempt.

    :param retry: whether another attempt can succeed.
    :param answered: False if the service did not answer, so that it may have acted.
    """
    return Outcome(move=RecoveryTransition.FAIL, message=message, retry=retry, answered=answered)


def lost_lease() -> Outcome:
    """Return the outcome of a driver that gives no further order, because another engine may."""
    return fail("the lease of the recovery is lost, no further request is sent", retry=True)


def fail_by_response(service: str, response: ServiceResponse) -> Outcome:
    """Return the outcome for an error that a service returned.

    :param service: name of the service and of its option group.
    """
    retry = response.status == 429 or response.status >= 500
    return fail(f"{service} {describe_error(service, response)}", retry=retry)


def describe_error(service: str, response: ServiceResponse) -> str:
    """Return the status and message of a service's error, and what the operator can check.

    :param service: name of the service and of its option group.
    """
    message = error_message(response)
    hints = {
        401: f"keystone rejected the account of [{service}]",
        403: f"the account of [{service}] lacks a role",
    }
    if response.status == 404 and not message:
        message = f"wrong address? See [{service}] endpoint_override and the catalog of keystone"
    parts = [f"returned HTTP status {response.status}", hints.get(response.status, ""), message]
    return ": ".join(part for part in parts if part)


def error_message(response: ServiceResponse) -> str:
    """Return the message of a service's error, or '' if there is none."""
    texts = [response.body.get("faultstring")]
    texts += [part.get("message") for part in response.body.values() if isinstance(part, Mapping)]
    return one_line(next((text for text in texts if isinstance(text, str)), ""), MAX_EXCERPT)


def connection_problem(url: str, ca_file: str, timeout: float) -> str:
    """Connect to the host of a URL, or to its proxy, and verify the certificate.

    :param ca_file: file with the certificate authorities; '' for those of the system.
    :param timeout: maximum duration of each step, in seconds.
    :returns: the problem without the URL, which may contain a secret; '' if there is none.
    """
    try:
        proxy = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
        target = urllib.parse.urlsplit(proxy or url)
        port = target.port or DEFAULT_PORTS.get(target.scheme, DEFAULT_PORTS["http"])
        address = (target.hostname or "", port)
    except ValueError:
        return "the address of the receiver, or of its proxy, is invalid"
    context = None
    try:
        if target.scheme == "https":
            context = ssl.create_default_context(cafile=(not proxy and ca_file) or None)
    except OSError as error:
        return f"could not read the certificate authorities ([webhook] ca_file): {error}"
    try:
        with socket.create_connection(address, timeout=timeout) as raw:
            if context:
                context.wrap_socket(raw, server_hostname=target.hostname).close()
    except ssl.SSLCertVerificationError as error:
        return f"the receiver's certificate is not trusted ([webhook] ca_file): {error}"
    except TimeoutError:
        return f"the receiver did not respond within {timeout:g} s"
    except (OSError, UnicodeError) as error:
        return f"the connection to the receiver failed: {error}"
    return ""
