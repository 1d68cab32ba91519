# SPDX-License-Identifier: Apache-2.0
"""Validation of request bodies, and responses to requests with a body."""

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

import jsonschema
import webob

from vmmonitor.api import errors, query
from vmmonitor.api.http_request import ApiRequest

#: Maximum size of a body in octets; a silence with a hundred conditions fits.
LIMIT = 64 * 1024
TYPE = "application/json"


def read(request: ApiRequest, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON object that a request carries; an empty body is an empty object.

    :param schema: JSON schema; each ``description`` completes the sentence "<value> is not ...".
    :raises ApiError: the body is too long (413), of another type (415), not JSON, or does not
        match the schema (400); or the URL has a query string (400).
    """
    if request.query_string:
        raise query.bad_parameter(f"{request.method} takes no parameters in the URL")
    given = _object(_octets(request))
    validator = jsonschema.Draft202012Validator(schema, format_checker=query.FORMAT_CHECKER)
    error = jsonschema.exceptions.best_match(validator.iter_errors(given))
    if error is not None:
        raise bad(_describe(error))
    return given


def bad(detail: str) -> errors.ApiError:
    """Return the error for an invalid body."""
    return errors.ApiError(400, errors.BAD_BODY, detail)


def created(request: ApiRequest, path: str, body: Mapping[str, Any]) -> webob.Response:
    """Return the response after the creation of an item.

    :param path: path of the item, such as ``/v1/silences/<id>``.
    :param body: the item, as in a response to GET.
    """
    where = f"{request.application_url.rstrip('/')}{path}"
    return webob.Response(json_body=body, content_type=TYPE, status=201, location=where)


def accepted(body: Mapping[str, Any]) -> webob.Response:
    """Return the response to a stored request that an engine will carry out."""
    return webob.Response(json_body=body, content_type=TYPE, status=202)


def _octets(request: ApiRequest) -> bytes:
    if (request.content_length or 0) > LIMIT:
        _too_long()
    try:
        octets: bytes = request.body_file.read(LIMIT + 1)
    except OSError as error:
        raise bad("the request body is shorter than its Content-Length") from error
    if len(octets) > LIMIT:
        _too_long()
    # A browser sends forms of a page to any server, but JSON only after a preflight request.
    if octets and request.content_type.lower() != TYPE:
        detail = f"Content-Type: {request.content_type[:100] or 'none'}; it must be {TYPE}"
        raise errors.ApiError(415, errors.BAD_TYPE, detail)
    return octets


def _too_long() -> NoReturn:
    detail = f"the request body has more than {LIMIT} octets"
    raise errors.ApiError(413, errors.TOO_LONG, detail, {"Connection": "close"})


def _object(octets: bytes) -> dict[str, Any]:
    try:
        given = json.loads(
            octets or b"{}", parse_constant=_reject_constant, parse_float=_parse_float
        )
    except (ValueError, RecursionError) as error:
        raise bad(f"the request body is not valid JSON: {str(error)[:200]}") from error
    if not isinstance(given, dict):
        raise bad("the request body is not a JSON object")
    return given


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _parse_float(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _reject_constant(text[:20])


def _describe(error: jsonschema.ValidationError) -> str:
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
