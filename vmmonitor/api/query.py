# SPDX-License-Identifier: Apache-2.0
"""From a list's query string to the page of the database, and from its rows to the answer."""

import dataclasses
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jsonschema

from vmmonitor.api import errors, times
from vmmonitor.api.http_request import ApiRequest
from vmmonitor.db.page import Direction, Page
from vmmonitor.model import errors as model_errors

FORMATS = jsonschema.FormatChecker(formats=())
FORMATS.checks("time", raises=ValueError)(lambda text: times.microseconds(text) is not None)

#: What is not a filter.
_PAGING = ("limit", "marker", "sort", "since", "until")


def read(request: ApiRequest, schema: Mapping[str, Any], sort: str) -> Page:
    """Return the page that a request asks for.

    :param schema: JSON schema of the query string.
    :param sort: the order if the request names none, as in the query string.
    :raises ApiError: a parameter is unknown or its value cannot be (400).
    """
    given = parameters(request, schema)

    def first(name: str) -> str | None:
        return given[name][0] if name in given else None

    since, until = first("since"), first("until")
    return Page(
        limit=min(int(first("limit") or request.conf.api.max_limit), request.conf.api.max_limit),
        marker=first("marker"),
        sort=_order(first("sort") or sort),
        filters={
            name: _canonical(name, values) for name, values in given.items() if name not in _PAGING
        },
        since=None if since is None else times.microseconds(since),
        until=None if until is None else times.microseconds(until),
    )


def parameters(request: ApiRequest, schema: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the checked parameters of a query string, each with all its values.

    :raises ApiError: one is unknown, or its value cannot be (400).
    """
    given = request.GET.dict_of_lists()
    validator = jsonschema.Draft202012Validator(schema, format_checker=FORMATS)
    error = jsonschema.exceptions.best_match(validator.iter_errors(given))
    if error is not None:
        raise bad_parameter(_told(error, schema))
    return given


def bad_parameter(detail: str) -> errors.ApiError:
    """Return the error that tells what is wrong with a query string."""
    return errors.ApiError(400, errors.BAD_PARAMETER, detail)


def _told(error: jsonschema.ValidationError, schema: Mapping[str, Any]) -> str:
    given: Any = error.instance
    known = schema["properties"]
    if error.validator == "additionalProperties":
        unknown = ", ".join(sorted(set(given) - set(known)))
        return f"unknown parameter: {unknown}; allowed are {', '.join(sorted(known))}"
    name = str(error.path[0])
    if error.validator == "maxItems":
        return f"{name}: given {len(given)} times, at most {error.validator_value} allowed"
    return f"{name}: {given[:255]!r} is not {known[name]['items']['description']}"


def _canonical(name: str, values: list[str]) -> list[str]:
    return [value.lower() for value in values] if name == "instance_uuid" else values


def _order(text: str) -> list[tuple[str, Direction]]:
    """Return the pairs of a ``sort`` that its schema has checked."""
    order: list[tuple[str, Direction]] = []
    for item in text.split(","):
        key, _, direction = item.partition(":")
        column = "id" if key == "stored" else key
        order.append((column, "desc" if direction == "desc" else "asc"))
    return order


def answer(
    request: ApiRequest,
    page: Page,
    find: Callable[[Any, Page], Sequence],
    noun: str,
    key: str,
    view,
) -> dict[str, Any]:
    """Return one page of a list, with a link to the next one if there is more.

    :param find: the repository's function that reads a page.
    :param noun: the list's name in the answer.
    :param key: the field whose value is the marker.
    :param view: makes of a found thing what is sent.
    :raises ApiError: nothing has the marker's id, or the database does not know a key (400).
    """
    # One more than asked for tells whether there is a next page.
    more = dataclasses.replace(page, limit=page.limit + 1)
    try:
        with request.database.reader() as tx:
            found = find(tx, more)
    except model_errors.NotFound as error:
        raise bad_parameter(f"marker: {error}") from error
    except ValueError as error:
        raise bad_parameter(str(error)) from error
    rows = [view(one) for one in found[: page.limit]]
    result: dict[str, Any] = {noun: rows, "links": []}
    if len(found) > page.limit:
        result["links"].append({"rel": "next", "href": _next(request, rows[-1][key])})
    return result


def _next(request: ApiRequest, marker: str) -> str:
    kept = [pair for pair in request.GET.items() if pair[0] != "marker"]
    return f"{request.path_url}?{urllib.parse.urlencode([*kept, ('marker', marker)])}"
