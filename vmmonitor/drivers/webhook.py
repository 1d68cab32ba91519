# SPDX-License-Identifier: Apache-2.0
"""Have an HTTP or HTTPS receiver of the operator recover an instance.

The message is a CloudEvents 1.0 event in structured mode. It is built here without the CloudEvents
SDK, which would add four packages for eight keys; the tests read the event with the SDK.
"""

import dataclasses
import datetime
import hashlib
import hmac
import json
import queue
import ssl
import threading
import time
import urllib.parse
from typing import Any

import requests

from vmmonitor.drivers import Driver
from vmmonitor.drivers.polling import connection_problem, fail
from vmmonitor.model.recovery import Outcome, RecoveryRequest
from vmmonitor.model.states import RecoveryTransition
from vmmonitor.text import one_line

EVENT_TYPE = "org.openstack.vmmonitor.incident.recover"
SIGNATURE_HEADER = "X-Vmmonitor-Signature"
#: Maximum part of a response that is read, and the time for it, in seconds.
MAX_BODY_BYTES = 800
BODY_TIMEOUT = 1.0
#: Maximum length of the receiver's text in a message.
MAX_BODY_EXCERPT = 200
#: Status codes of a gateway before the receiver, which may have acted.
GATEWAY_STATUSES = (502, 503, 504)
NO_URL = "[webhook] url must be set"
#: Texts of OpenSSL for an untrusted certificate, and for a file without a certificate.
UNTRUSTED_TEXTS = ("CERTIFICATE_VERIFY_FAILED", "X509")


class WebhookDriver(Driver):
    """Posts the incident to the receiver, which recovers the instance."""

    def check(self) -> str:
        """Connect to the receiver and verify its certificate, without a request."""
        conf = self.conf.webhook
        if not conf.url:
            return NO_URL
        return connection_problem(conf.url, conf.ca_file, conf.timeout)

    def recover(self, request: RecoveryRequest) -> Outcome:
        """Post the incident once; the status code of the response decides.

        An attempt after one without a response, and a takeover, post the same event id again, so
        that the receiver can ignore the duplicate.
        """
        conf = self.conf.webhook
        if not conf.url:
            return fail(NO_URL)
        body = json.dumps(cloud_event(request)).encode()
        seconds = min(conf.timeout, request.timeout)
        deadline = time.monotonic() + seconds
        results: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # A separate thread, because requests has a timeout for each read, not for all of them: a
        # receiver that sends a byte from time to time would block the recovery indefinitely.
        threading.Thread(
            target=self._post, args=(body, seconds, results), name="webhook", daemon=True
        ).start()
        result = _next_result(results, seconds)
        if result is None:
            return _fail_by_timeout(seconds)
        if isinstance(result, Exception):
            return _fail_by_error(result, seconds)
        if 200 <= result < 300:
            return Outcome(
                move=RecoveryTransition.WAIT, message=f"the receiver returned HTTP status {result}"
            )
        text = _next_result(results, min(BODY_TIMEOUT, deadline - time.monotonic()))
        return _fail_by_status(result, text if isinstance(text, str) else "")

    def _post(self, body: bytes, seconds: float, results: "queue.SimpleQueue[Any]") -> None:
        """Put the status code and then the beginning of the body into the queue, or an error."""
        conf = self.conf.webhook
        try:
            with (
                requests.Session() as session,
                session.post(
                    conf.url,
                    data=body,
                    headers=_headers(conf.secret, body),
                    timeout=seconds,
                    verify=conf.ca_file or _system_ca_file(),
                    allow_redirects=False,
                    stream=True,
                ) as response,
            ):
                results.put(response.status_code)
                results.put(_read_excerpt(response))
        except Exception as error:
            results.put(error)


def cloud_event(request: RecoveryRequest) -> dict[str, Any]:
    """Return a request as a CloudEvents 1.0 event; the same for each call of a recovery.

    The id is that of the failure: an attempt after one without a
    response has the same id.
    Times within ``data`` are microseconds since the epoch.
    """
    recovery, incident = request.recovery, request.incident
    epoch = datetime.datetime(1970, 1, 1)
    created_at = epoch + datetime.timedelta(microseconds=recovery.created_at)
    return {
        "specversion": "1.0",
        "id": f"{incident.incident_id}/{recovery.failure_number}",
        "source": "/vmmonitor/hosts/" + urllib.parse.quote(incident.host, safe=""),
        "type": EVENT_TYPE,
        "subject": recovery.instance_uuid,
        "time": created_at.isoformat(timespec="microseconds") + "Z",
        "datacontenttype": "application/json",
        "attempt": recovery.attempt,
        "data": {
            "incident": dataclasses.asdict(incident),
            "events": [dataclasses.asdict(event) for event in request.events],
            "attempt": recovery.attempt,
            "policy": recovery.policy,
        },
    }


def _headers(secret: str, body: bytes) -> dict[str, str]:
    headers = {
        "Content-Type": "application/cloudevents+json; charset=utf-8",
        "User-Agent": "vmmonitor",
    }
    if secret:
        digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        headers[SIGNATURE_HEADER] = f"sha256={digest}"
    return headers


def _system_ca_file() -> str | bool:
    """Return the path of the system's certificate authorities; requests has its own bundle."""
    paths = ssl.get_default_verify_paths()
    return paths.cafile or paths.capath or True


def _next_result(results: "queue.SimpleQueue[Any]", seconds: float) -> Any:
    try:
        return results.get(timeout=max(seconds, 0))
    except queue.Empty:
        return None


def _read_excerpt(response: requests.Response) -> str:
    """Return the beginning of a response in printable characters, on one line."""
    until = time.monotonic() + BODY_TIMEOUT / 2
    body = bytearray()
    # One byte at a time, because a longer read would wait for all of its bytes.
    for piece in response.iter_content(1):
        body += piece
        if len(body) >= MAX_BODY_BYTES or time.monotonic() > until:
            break
    return one_line(body.decode(errors="replace"), MAX_BODY_EXCERPT)


def _fail_by_status(status: int, text: str) -> Outcome:
    message = f"the receiver returned HTTP status {status}" + (f": {text}" if text else "")
    if 300 <= status < 400:
        message += " (redirects are not followed)"
    return fail(message, retry=status >= 500, answered=status not in GATEWAY_STATUSES)


def _fail_by_timeout(seconds: float) -> Outcome:
    message = f"the receiver did not respond within {seconds:g} s"
    return fail(message, retry=True, answered=False)


def _fail_by_error(error: Exception, seconds: float) -> Outcome:
    """Return the outcome of an error, without the URL, which may contain a secret."""
    cause = getattr(error.args[0], "reason", error) if error.args else error
    reason = one_line(str(cause), MAX_BODY_EXCERPT)
    is_untrusted = any(text in reason for text in UNTRUSTED_TEXTS)
    if isinstance(error, requests.exceptions.SSLError) and is_untrusted:
        return fail(f"the receiver's certificate is not trusted ([webhook] ca_file): {reason}")
    if isinstance(error, requests.exceptions.Timeout):
        return _fail_by_timeout(seconds)
    if isinstance(error, requests.exceptions.ConnectionError):
        message = f"the connection to the receiver failed: {reason}"
        return fail(message, retry=True, answered=False)
    if not isinstance(error, requests.exceptions.RequestException) and isinstance(error, OSError):
        return fail(f"could not read the certificate authorities ([webhook] ca_file): {reason}")
    message = f"the request to the receiver failed: {type(error).__name__}"
    return fail(message, answered=False)
