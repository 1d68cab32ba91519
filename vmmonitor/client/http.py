# SPDX-License-Identifier: Apache-2.0
"""The REST API as the commands see it: lists and single things."""

import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from keystoneauth1 import adapter
from keystoneauth1 import exceptions as ksa
from keystoneauth1 import session as ksa_session
from osc_lib import exceptions

SERVICE_TYPE = "vmmonitor"
#: Rows asked for at once.
PAGE = 1000
#: Header that names the caller.
AUTHOR = "X-User-Name"
#: HTTP status of an answer without a body.
NOTHING_LEFT = 204

Params = Mapping[str, Any]


class Unreachable(exceptions.CommandError):
    """Nothing answered, or the service is out of order just now."""


class Client:
    """Speaks to one vmmonitor API."""

    def __init__(self, session: ksa_session.Session, **where: Any):
        """Keep what is needed; connect to nothing yet.

        :param session: who is calling, and how.
        :param where: what finds the API in the service catalogue (keystoneauth1's Adapter).
        """
        self._api = adapter.Adapter(
            session, service_type=SERVICE_TYPE, user_agent="vmmonitor", **where
        )

    def list(self, noun: str, params: Params, limit: int | None = None) -> Iterator[dict]:
        """Yield the things of a list, following its pages.

        :param noun: ``events``, ``incidents``, ``recoveries`` or ``agents``.
        :param params: the query string; a value may be a list; None is left out.
        :param limit: yield at most this many; None for all.
        :raises osc_lib.exceptions.CommandError: the API cannot be reached, or refuses.
        """
        left = limit
        asked: Params | None = {name: value for name, value in params.items() if value is not None}
        while asked is not None and left != 0:
            size = PAGE if left is None else min(left, PAGE)
            answer = self._get(f"/v1/{noun}", dict(asked) | {"limit": size})
            rows = answer[noun] if left is None else answer[noun][:left]
            yield from rows
            left = None if left is None else left - len(rows)
            asked = _next(answer)

    def show(self, noun: str, ident: str) -> dict[str, Any]:
        """Return one thing.

        :param noun: as in ``list``.
        :raises osc_lib.exceptions.CommandError: there is none, or the API cannot be reached.
        """
        answer = self._get(f"/v1/{noun}/{urllib.parse.quote(ident, safe='')}", {})
        return next(iter(answer.values()))

    def post(
        self, *path: str, body: Mapping[str, Any], author: str | None = None
    ) -> dict[str, Any]:
        """Make or do something, and return the thing that the API tells.

        :param path: what follows the version, unquoted: a noun, an id, what is done to it.
        :param author: who does it; where keystone knows the caller, that counts.
        :raises osc_lib.exceptions.CommandError: the API cannot be reached, or refuses.
        """
        return self._write("POST", path, body, author)

    def put(
        self, *path: str, body: Mapping[str, Any], author: str | None = None
    ) -> dict[str, Any]:
        """Set something, and return the thing that the API tells; all else as for ``post``."""
        return self._write("PUT", path, body, author)

    def delete(self, *path: str, author: str | None = None) -> dict[str, Any]:
        """End something, and return what the API tells of it, empty if nothing is left of it;
        all else as for ``post``."""
        return self._write("DELETE", path, None, author)

    def _write(
        self,
        method: str,
        path: Sequence[str],
        body: Mapping[str, Any] | None,
        author: str | None,
    ) -> dict[str, Any]:
        url = "/".join(["/v1", *(urllib.parse.quote(part, safe="") for part in path)])
        # NOTE: UTF-8, as octets that the HTTP library takes for ISO 8859-1.
        headers = {AUTHOR: author.encode().decode("latin-1")} if author else {}
        answer = self._read(self._ask(url, {}, method, json=body, headers=headers))
        return cast(dict[str, Any], next(iter(answer.values()), {}))

    def evidence(self, event_id: str) -> Sequence[dict[str, Any]]:
        """Return the list of an event's evidence.

        :raises osc_lib.exceptions.CommandError: there is no such event, or no API.
        """
        return self._get(_evidence_of(event_id), {})["evidence"]

    def evidence_content(self, event_id: str, kind: str) -> bytes:
        """Return what an event's evidence of a kind holds.

        :raises osc_lib.exceptions.CommandError: there is none, or no API.
        """
        path = f"{_evidence_of(event_id)}/{urllib.parse.quote(kind, safe='')}"
        response = self._ask(path, {})
        if not response.ok:
            self._read(response)
        return response.content

    def _get(self, path: str, params: Params) -> dict[str, Any]:
        return self._read(self._ask(path, params))

    def _ask(self, path: str, params: Params, method: str = "GET", **more: Any) -> Any:
        query = urllib.parse.urlencode(params, doseq=True)
        try:
            url = f"{path}?{query}" if query else path
            return self._api.request(url, method, raise_exc=False, **more)
        except (ksa.ConnectionError, ksa.RetriableConnectionFailure) as error:
            raise Unreachable(self._unreachable(error)) from error
        except ksa.ClientException as error:
            raise exceptions.CommandError(_one_line(error)) from error

    def _read(self, response: Any) -> dict[str, Any]:
        if response.status_code == NOTHING_LEFT:
            return {}
        try:
            body = response.json()
        except ValueError:
            body = None
        if response.ok and isinstance(body, dict):
            return body
        told = body.get("errors") if isinstance(body, dict) else None
        if not told:
            raise exceptions.CommandError(
                f"{response.url} does not answer like the vmmonitor API "
                f"(HTTP status {response.status_code}); set another URL with --endpoint or "
                "VMMONITOR_ENDPOINT"
            )
        error = Unreachable if response.status_code == 503 else exceptions.CommandError
        text = f"{told[0]['detail']} (HTTP status {response.status_code}"
        raise error(f"{text}, request {told[0]['request_id']})")

    def _unreachable(self, error: Exception) -> str:
        where = self._api.get_endpoint()
        return (
            f"cannot reach the vmmonitor API at {where}: is it running? Another URL is set with "
            f"--endpoint or VMMONITOR_ENDPOINT. ({_cause(error)})"
        )


def _evidence_of(event_id: str) -> str:
    return f"/v1/events/{urllib.parse.quote(event_id, safe='')}/evidence"


def _cause(error: BaseException) -> str:
    """Return what the innermost cause says: the outer ones repeat the URL at length."""
    while True:
        inner = error.__cause__ or error.__context__ or getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            return _one_line(error)
        error = inner


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _next(answer: Mapping[str, Any]) -> Params | None:
    """Return the query of the next page; only the query, as we may know the host by another
    name than the API does."""
    for link in answer["links"]:
        if link["rel"] == "next":
            return urllib.parse.parse_qs(urllib.parse.urlsplit(link["href"]).query)
    return None
