# SPDX-License-Identifier: Apache-2.0
"""From a request's body to what a handler may trust, and what such a handler answers."""

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

import jsonschema
import webob

from vmmonitor.api import errors, query
from vmmonitor.api.http_request import ApiRequest

#: Octets; the longest that makes sense has a hundred matchers.
LIMIT = 64 * 1024
TYPE = "application/json"


def read(request: ApiRequest, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON object that a request carries; an empty body is an empty object.

    :param schema: its JSON schema; ``description`` of each part of it completes the sentence
        "<value> is not ...".
    :raises ApiError: the body is too long (413), of another type (415), no JSON, or not what
        the schema wants (400); or the URL has a query string (400).
    """
    if request.query_string:
        raise query.bad_parameter(f"{request.method} takes no parameters in the URL")
    given = _object(_octets(request))
    validator = jsonschema.Draft202012Validator(schema, format_checker=query.FORMATS)
    error = jsonschema.exceptions.best_match(validator.iter_errors(given))
    if error is not None:
        raise bad(_told(error))
    return given


def bad(detail: str) -> errors.ApiError:
    """Return the error that tells what is wrong with a body."""
    return errors.ApiError(400, errors.BAD_BODY, detail)


def created(request: ApiRequest, path: str, body: Mapping[str, Any]) -> webob.Response:
    """Return the answer to what made a new thing.

    :param path: where the thing is from now on, such as ``/v1/silences/<id>``.
    :param body: the thing, as its ``show`` tells it.
    """
    where = f"{request.application_url.rstrip('/')}{path}"
    return webob.Response(json_body=body, content_type=TYPE, status=201, location=where)


def accepted(body: Mapping[str, Any]) -> webob.Response:
    """Return the answer to what is written down, and done by an engine in a moment."""
    return webob.Response(json_body=body, content_type=TYPE, status=202)


def _octets(request: ApiRequest) -> bytes:
    if (request.content_length or 0) > LIMIT:
        _too_long()
    try:
        octets: bytes = request.body_file.read(LIMIT + 1)
    except OSError as error:
        raise bad("the body ended before its Content-Length") from error
    if len(octets) > LIMIT:
        _too_long()
    # A browser sends a page's forms, but no JSON, to a stranger without asking it first.
    if octets and request.content_type.lower() != TYPE:
        detail = f"Content-Type: {request.content_type[:100] or 'none'}; it must be {TYPE}"
        raise errors.ApiError(415, errors.BAD_TYPE, detail)
    return octets


def _too_long() -> NoReturn:
    detail = f"the body has more than {LIMIT} octets"
    raise errors.ApiError(413, errors.TOO_LONG, detail, {"Connection": "close"})


def _object(octets: bytes) -> dict[str, Any]:
    try:
        given = json.loads(octets or b"{}", parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise bad(f"the body is no JSON: {str(error)[:200]}") from error
    if not isinstance(given, dict):
        raise bad("the body is no JSON object")
    return given


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text[:20])


def _told(error: jsonschema.ValidationError) -> str:
    place = ".".join(str(part) for part in error.absolute_path)[:255]
    within = f"{place}: " if place else ""
    given: Any = error.instance
    schema: Any = error.schema
    if error.validator == "additionalProperties":
        known = schema.get("properties", {})
        unknown = ", ".join(repr(name[:100]) for name in sorted(set(given) - set(known))[:10])
        return f"{within}unknown: {unknown}; allowed are {', '.join(sorted(known)) or 'none'}"
    if error.validator == "required":
        missing = [name for name in schema["required"] if name not in given]
        return f"{within}{', '.join(missing)} missing"
    if "description" in schema:
        return f"{within}{repr(given)[:255]} is not {schema['description']}"
    return f"{within}{error.message[:255]}"
