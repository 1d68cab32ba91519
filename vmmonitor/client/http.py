# SPDX-License-Identifier: Apache-2.0
"""A client of the REST API: lists and single items."""

import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from keystoneauth1 import adapter
from keystoneauth1 import exceptions as ksa
from keystoneauth1 import session as ksa_session
from osc_lib import exceptions

from vmmonitor import text

SERVICE_TYPE = "vmmonitor"
#: Maximum number of items in one request.
_PAGE = 1000
#: Header with the name of the caller.
_AUTHOR = "X-User-Name"
#: HTTP status of a response without a body.
NO_CONTENT = 204

Params = Mapping[str, Any]


class Unreachable(exceptions.CommandError):
    """The API did not respond, or is temporarily unavailable"""


class Client:
    """Sends requests to one vmmonitor API."""

    def __init__(self, session: ksa_session.Session, shown_url: str = "", **where: Any):
        """Create the adapter; the first request connects.

        :param session: keystoneauth session.
        :param shown_url: URL in error messages, if it is not that of the endpoint.
        :param where: arguments of keystoneauth1's Adapter that select the endpoint.
        """
        self._shown_url = shown_url
        self._api = adapter.Adapter(
            session, service_type=SERVICE_TYPE, user_agent="vmmonitor", **where
        )

    def list(self, noun: str, params: Params, limit: int | None = None) -> Iterator[dict]:
        """Yield the items of a list, over all its pages.

        :param noun: ``events``, ``incidents``, ``recoveries`` or ``agents``.
        :param params: the query string; a value may be a list; None is left out.
        :param limit: maximum number of items; None for no limit.
        :raises osc_lib.exceptions.CommandError: the API does not respond, or rejects the request.
        """
        left = limit
        asked: Params | None = {name: value for name, value in params.items() if value is not None}
        while asked is not None and left != 0:
            size = _PAGE if left is None else min(left, _PAGE)
            answer = self._get(f"/v1/{noun}", dict(asked) | {"limit": size})
            rows = answer[noun] if left is None else answer[noun][:left]
            yield from rows
            left = None if left is None else left - len(rows)
            asked = _next(answer)

    def show(self, noun: str, ident: str) -> dict[str, Any]:
        """Return one item.

        :param noun: as in ``list``.
        :raises osc_lib.exceptions.CommandError: the item does not exist, or the API does not
            respond.
        """
        answer = self._get(_path(noun, ident), {})
        return next(iter(answer.values()))

    def post(
        self, *path: str, body: Mapping[str, Any], author: str | None = None
    ) -> dict[str, Any]:
        """Send a POST request, and return the item in its response.

        :param path: unquoted parts of the URL after the version, such as a noun and an id.
        :param author: name of the caller; an API with authentication ignores it.
        :raises osc_lib.exceptions.CommandError: the API does not respond, or rejects the request.
        """
        return self._write("POST", path, body, author)

    def put(
        self, *path: str, body: Mapping[str, Any], author: str | None = None
    ) -> dict[str, Any]:
        """Send a PUT request; otherwise like ``post``."""
        return self._write("PUT", path, body, author)

    def delete(self, *path: str, author: str | None = None) -> dict[str, Any]:
        """Send a DELETE request, and return the item in its response, empty if it has no body;
        otherwise like ``post``."""
        return self._write("DELETE", path, None, author)

    def _write(
        self,
        method: str,
        path: Sequence[str],
        body: Mapping[str, Any] | None,
        author: str | None,
    ) -> dict[str, Any]:
        url = _path(*path)
        # NOTE: the HTTP library encodes headers as ISO 8859-1; this makes the octets UTF-8.
        headers = {_AUTHOR: author.encode().decode("latin-1")} if author else {}
        answer = self._read(self._send(url, {}, method, json=body, headers=headers))
        return cast(dict[str, Any], next(iter(answer.values()), {}))

    def evidence(self, event_id: str) -> Sequence[dict[str, Any]]:
        """Return the list of an event's evidence.

        :raises osc_lib.exceptions.CommandError: the event does not exist, or the API does not
            respond.
        """
        return self._get(_path("events", event_id, "evidence"), {})["evidence"]

    def evidence_content(self, event_id: str, kind: str) -> bytes:
        """Return the content of one item of an event's evidence.

        :raises osc_lib.exceptions.CommandError: the item does not exist, or the API does not
            respond.
        """
        response = self._send(_path("events", event_id, "evidence", kind), {})
        if not response.ok:
            self._read(response)
        return response.content

    def _get(self, path: str, params: Params) -> dict[str, Any]:
        return self._read(self._send(path, params))

    def _send(self, path: str, params: Params, method: str = "GET", **more: Any) -> Any:
        query = urllib.parse.urlencode(params, doseq=True)
        try:
            url = f"{path}?{query}" if query else path
            return self._api.request(url, method, raise_exc=False, **more)
        except (ksa.ConnectionError, ksa.RetriableConnectionFailure) as error:
            raise Unreachable(self._describe_outage(error)) from error
        except ksa.ClientException as error:
            raise exceptions.CommandError(_describe_error(error)) from error

    def _read(self, response: Any) -> dict[str, Any]:
        if response.status_code == NO_CONTENT:
            return {}
        try:
            body = response.json()
        except ValueError:
            body = None
        if response.ok and isinstance(body, dict):
            return body
        errors = body.get("errors") if isinstance(body, dict) else None
        if not errors:
            raise exceptions.CommandError(
                f"{response.url} is not a vmmonitor API (HTTP status {response.status_code}); set "
                "its URL with --endpoint or VMMONITOR_ENDPOINT"
            )
        error = Unreachable if response.status_code == 503 else exceptions.CommandError
        detail = f"{errors[0]['detail']} (HTTP status {response.status_code}"
        raise error(f"{detail}, request {errors[0]['request_id']})")

    def _describe_outage(self, error: Exception) -> str:
        url = self._shown_url or self._api.get_endpoint()
        return (
            f"cannot reach the vmmonitor API at {url}; check that it is running, or set its URL "
            "with --endpoint or VMMONITOR_ENDPOINT. "
            f"({_describe_root_cause(error)})"
        )


def _path(*parts: str) -> str:
    try:
        return text.url_path("v1", *parts)
    except ValueError as error:
        raise exceptions.CommandError(str(error)) from error


def _describe_root_cause(error: BaseException) -> str:
    """Return the message of the innermost cause; the outer ones only repeat the URL."""
    while True:
        inner = error.__cause__ or error.__context__ or getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            return _describe_error(error)
        error = inner


def _describe_error(error: BaseException) -> str:
    return text.one_line(error) or type(error).__name__


def _next(answer: Mapping[str, Any]) -> Params | None:
    """Return the query of the next page.

    The rest of the URL is not used: the API may have another host name for its clients.
    """
    for link in answer["links"]:
        if link["rel"] == "next":
            return urllib.parse.parse_qs(urllib.parse.urlsplit(link["href"]).query)
    return None
