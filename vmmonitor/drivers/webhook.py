# SPDX-License-Identifier: Apache-2.0
"""Tells a receiver of the operator's, over HTTP or HTTPS, to recover an instance.

The message is a CloudEvents 1.0 event in structured mode. Those are eight keys, made here by
hand: the CloudEvents SDK would bring four packages for them. The tests read them with it.
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

from vmmonitor.drivers import Driver, connecting
from vmmonitor.model.recovery import Outcome, RecoveryRequest

TYPE = "org.openstack.vmmonitor.incident.recover"
SIGNATURE = "X-Vmmonitor-Signature"
#: What is read of an answer: enough for EXCERPT characters.
BODY_BYTES = 800
BODY_SECONDS = 1.0
EXCERPT = 200
NO_URL = "no receiver is configured: [webhook] url is empty"
#: OpenSSL's words for a certificate that is not to be trusted, and for a file without any.
UNTRUSTED = ("CERTIFICATE_VERIFY_FAILED", "X509")


class WebhookDriver(Driver):
    """Posts the incident; whoever receives it acts."""

    def check(self) -> str:
        """Connect, and look at the certificate; post nothing, for whoever receives acts."""
        conf = self.conf.webhook
        return connecting.trouble(conf.url, conf.ca_file, conf.timeout) if conf.url else NO_URL

    def recover(self, request: RecoveryRequest) -> Outcome:
        """Post once, and judge by the status code of the answer.

        A takeover posts the same id again, by which the receiver knows it.
        """
        conf = self.conf.webhook
        if not conf.url:
            return _fail(NO_URL)
        body = json.dumps(cloud_event(request)).encode()
        seconds = min(conf.timeout, request.timeout)
        deadline = time.monotonic() + seconds
        told: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # A thread of its own because requests knows a timeout for each read, not for the whole:
        # a receiver that sends a byte now and then would keep the recovery for ever.
        threading.Thread(
            target=self._post, args=(body, seconds, told), name="webhook", daemon=True
        ).start()
        answer = _next(told, seconds)
        if answer is None:
            return _fail(f"the receiver did not answer within {seconds:g} s", retry=True)
        if isinstance(answer, Exception):
            return _trouble(answer, seconds)
        if 200 <= answer < 300:
            return Outcome(move="wait", message=f"the receiver answered {answer}")
        text = _next(told, min(BODY_SECONDS, deadline - time.monotonic()))
        return _refusal(answer, text if isinstance(text, str) else "")

    def _post(self, body: bytes, seconds: float, told: "queue.SimpleQueue[Any]") -> None:
        """Put the answer's status code, then the start of its body; or the error."""
        conf = self.conf.webhook
        try:
            with (
                requests.Session() as session,
                session.post(
                    conf.url,
                    data=body,
                    headers=_headers(conf.secret, body),
                    timeout=seconds,
                    verify=conf.ca_file or _system_authorities(),
                    allow_redirects=False,
                    stream=True,
                ) as response,
            ):
                told.put(response.status_code)
                told.put(_excerpt(response))
        except Exception as error:
            told.put(error)


def cloud_event(request: RecoveryRequest) -> dict[str, Any]:
    """Return a request as a CloudEvents 1.0 event, the same at every call.

    Times within ``data`` are microseconds since the epoch, as everywhere in the model.
    """
    recovery, incident = request.recovery, request.incident
    epoch = datetime.datetime(1970, 1, 1)
    created_at = epoch + datetime.timedelta(microseconds=recovery.created_at)
    return {
        "specversion": "1.0",
        "id": recovery.recovery_id,
        "source": "/vmmonitor/hosts/" + urllib.parse.quote(incident.host, safe=""),
        "type": TYPE,
        "subject": recovery.instance_uuid,
        "time": created_at.isoformat(timespec="microseconds") + "Z",
        "datacontenttype": "application/json",
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
        headers[SIGNATURE] = f"sha256={digest}"
    return headers


def _system_authorities() -> str | bool:
    """Return where the system keeps its authorities; requests would take its own bundle."""
    paths = ssl.get_default_verify_paths()
    return paths.cafile or paths.capath or True


def _next(told: "queue.SimpleQueue[Any]", seconds: float) -> Any:
    try:
        return told.get(timeout=max(seconds, 0))
    except queue.Empty:
        return None


def _excerpt(response: requests.Response) -> str:
    """Return the start of an answer in printable characters, on one line."""
    until = time.monotonic() + BODY_SECONDS / 2
    body = bytearray()
    # One byte at a time because a longer read would wait until all of it is there.
    for piece in response.iter_content(1):
        body += piece
        if len(body) >= BODY_BYTES or time.monotonic() > until:
            break
    return _printable(body.decode(errors="replace"))


def _printable(text: str) -> str:
    spaced = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(spaced.split())[:EXCERPT]


def _refusal(code: int, text: str) -> Outcome:
    said = f"the receiver answered {code}" + (f": {text}" if text else "")
    if 300 <= code < 400:
        said += " (redirects are not followed)"
    return _fail(said, retry=code >= 500)


def _trouble(error: Exception, seconds: float) -> Outcome:
    """Say what went wrong without the URL, which may carry a secret of the receiver's."""
    cause = getattr(error.args[0], "reason", error) if error.args else error
    why = _printable(str(cause))
    if isinstance(error, requests.exceptions.SSLError) and any(word in why for word in UNTRUSTED):
        return _fail(f"the receiver's certificate cannot be trusted ([webhook] ca_file): {why}")
    if isinstance(error, requests.exceptions.Timeout):
        return _fail(f"the receiver did not answer within {seconds:g} s", retry=True)
    if isinstance(error, requests.exceptions.ConnectionError):
        return _fail(f"the receiver cannot be reached: {why}", retry=True)
    if not isinstance(error, requests.exceptions.RequestException) and isinstance(error, OSError):
        return _fail(f"the authorities cannot be read ([webhook] ca_file): {why}")
    return _fail(f"the receiver cannot be called: {type(error).__name__}")


def _fail(message: str, retry: bool = False) -> Outcome:
    return Outcome(move="fail", message=message, retry=retry)
