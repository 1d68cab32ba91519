# SPDX-License-Identifier: Apache-2.0
"""Validation of the query strings of lists, and responses with one page."""

import dataclasses
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jsonschema

from vmmonitor.api import errors, times
from vmmonitor.api.http_request import ApiRequest
from vmmonitor.db.page import Direction, Page
from vmmonitor.model import errors as model_errors

FORMAT_CHECKER = jsonschema.FormatChecker(formats=())
FORMAT_CHECKER.checks("time", raises=ValueError)(lambda text: times.microseconds(text) is not None)

#: Parameters that are not filters.
_PAGING = ("limit", "marker", "sort", "since", "until")


def read(request: ApiRequest, schema: Mapping[str, Any], sort: str) -> Page:
    """Return the page that a request selects.

    :param schema: JSON schema of the query string.
    :param sort: default order, in the syntax of the query string.
    :raises ApiError: a parameter is unknown or has an invalid value (400).
    """
    given = parameters(request, schema)

    def first(name: str) -> str | None:
        return given[name][0] if name in given else None

    since, until = first("since"), first("until")
    return Page(
        limit=min(int(first("limit") or request.conf.api.max_limit), request.conf.api.max_limit),
        marker=first("marker"),
        sort=_parse_sort(first("sort") or sort),
        filters={
            name: _canonical(name, values) for name, values in given.items() if name not in _PAGING
        },
        since=None if since is None else times.microseconds(since),
        until=None if until is None else times.microseconds(until),
    )


def parameters(request: ApiRequest, schema: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the checked parameters of a query string, each with all its values.

    :raises ApiError: a parameter is unknown or has an invalid value (400).
    """
    given = request.GET.dict_of_lists()
    validator = jsonschema.Draft202012Validator(schema, format_checker=FORMAT_CHECKER)
    error = jsonschema.exceptions.best_match(validator.iter_errors(given))
    if error is not None:
        raise bad_parameter(_describe(error, schema))
    return given


def bad_parameter(detail: str) -> errors.ApiError:
    """Return the error for an invalid query string."""
    return errors.ApiError(400, errors.BAD_PARAMETER, detail)


def _describe(error: jsonschema.ValidationError, schema: Mapping[str, Any]) -> str:
    given: Any = error.instance
    known = schema["properties"]
    if error.validator == "additionalProperties":
        unknown = ", ".join(sorted(set(given) - set(known)))
        return f"unknown parameter: {unknown}; allowed are {', '.join(sorted(known))}"
    name = str(error.path[0])
    if error.validator == "maxItems":
        return f"{name}: given {len(given)} times, allowed are {error.validator_value}"
    return f"{name}: {given[:255]!r} is not {known[name]['items']['description']}"


def _canonical(name: str, values: list[str]) -> list[str]:
    return [value.lower() for value in values] if name == "instance_uuid" else values


def _parse_sort(text: str) -> list[tuple[str, Direction]]:
    """Return the (column, direction) pairs of a valid ``sort``."""
    order: list[tuple[str, Direction]] = []
    for item in text.split(","):
        key, _, direction = item.partition(":")
        column = "id" if key == "stored" else key
        order.append((column, "desc" if direction == "desc" else "asc"))
    return order


def respond(
    request: ApiRequest,
    page: Page,
    find: Callable[[Any, Page], Sequence],
    noun: str,
    key: str,
    view,
) -> dict[str, Any]:
    """Return one page of a list, with a link to the next page if there is one.

    :param find: function of a repository that reads a page.
    :param noun: name of the list in the response.
    :param key: field whose value is the marker.
    :param view: function that returns the representation of an item.
    :raises ApiError: no item has the marker's id, or the database rejects a key (400).
    """
    # One more item shows whether there is a next page.
    more = dataclasses.replace(page, limit=page.limit + 1)
    try:
        with request.database.reader() as tx:
            found = find(tx, more)
    except model_errors.NotFound as error:
        raise bad_parameter(f"marker: {error}") from error
    except ValueError as error:
        raise bad_parameter(str(error)) from error
    rows = [view(item) for item in found[: page.limit]]
    result: dict[str, Any] = {noun: rows, "links": []}
    if len(found) > page.limit:
        result["links"].append({"rel": "next", "href": _next(request, rows[-1][key])})
    return result


def _next(request: ApiRequest, marker: str) -> str:
    kept = [pair for pair in request.GET.items() if pair[0] != "marker"]
    return f"{request.path_url}?{urllib.parse.urlencode([*kept, ('marker', marker)])}"
