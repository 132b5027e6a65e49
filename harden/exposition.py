"""Answers GET /v1/metrics, for any HTTP server: a request's parts in, status and bytes out."""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "CATEGORIES",
    "FORMATS",
    "PROMETHEUS_CONTENT_TYPE",
    "ExpositionResponse",
    "MetricsSource",
    "bearer_matches",
    "respond",
]

CATEGORIES = ("cache", "latency", "memory", "throughput", "requests", "tokens", "worker")
FORMATS = ("json", "prometheus")
PROMETHEUS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_JSON_CONTENT_TYPE = "application/json; charset=utf-8"
_ALWAYS = ("timestamp", "uptime_seconds")
_ALLOWED_METHODS = "GET, HEAD, OPTIONS"


class MetricsSource(Protocol):
    """Whatever has the metrics, such as `harden.server_metrics.ServerMetrics`."""

    def snapshot(self) -> dict[str, Any]:
        """Return the metrics as a dict that `json.dumps` takes."""

    def prometheus(self) -> str:
        """Return the metrics in the Prometheus text format, version 0.0.4."""


@dataclass(frozen=True, slots=True)
class ExpositionResponse:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _RefusedError(Exception):
    """The request cannot be answered with metrics; carries what the client is told."""

    def __init__(
        self,
        status: HTTPStatus,
        message: str,
        code: str,
        *,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error = {
            "message": message,
            "type": "server_error"
            if status >= HTTPStatus.INTERNAL_SERVER_ERROR
            else "invalid_request_error",
            "param": param,
            "code": code,
        }
        self.headers = {} if headers is None else headers


def respond(
    method: str,
    query: str | Mapping[str, str],
    authorization: str | None,
    source: MetricsSource,
    key: str | None,
    *,
    allow_origin: str | None = "*",
) -> ExpositionResponse:
    """Answer a request for metrics.

    Args:
        method: the HTTP method; GET and HEAD are answered, OPTIONS says what is allowed.
        query: the query string without its question mark, or its parameters. `format` is json
            (default) or prometheus; `category` keeps those of `CATEGORIES`, comma-separated, of
            the JSON.
        authorization: the header of that name.
        source: asked for the metrics only when the request is a good one.
        key: the key that a bearer token must equal; None or blank: open to all.
        allow_origin: value of Access-Control-Allow-Origin; None sends none.

    Returns:
        The answer; errors have the body that OpenAI's clients parse. It never echoes anything
        of the request.
    """
    try:
        answer = _answer(method, query, authorization, source, key)
    except _RefusedError as refused:
        body = json.dumps({"error": refused.error}).encode()
        headers = {"Content-Type": _JSON_CONTENT_TYPE, **refused.headers}
        answer = ExpositionResponse(refused.status, headers, body)
    return _finished(answer, method, allow_origin)


def bearer_matches(authorization: str | None, key: str) -> bool:
    """Return whether an Authorization header carries the key as its bearer token.

    The comparison takes the same time wherever the two differ. Servers decode headers as UTF-8
    or as Latin-1, so both readings of the header's bytes are tried.
    """
    scheme, _, token = (authorization or "").partition(" ")
    wanted = key.encode("utf-8", "surrogatepass")
    matches = [hmac.compare_digest(read, wanted) for read in _readings(token.strip(" "))]
    return scheme.lower() == "bearer" and any(matches)


def _readings(token: str) -> list[bytes]:
    """Return the bytes that a decoded header may have had on the wire."""
    readings = []
    for encoding, errors in (("utf-8", "surrogateescape"), ("latin-1", "strict")):
        try:
            readings.append(token.encode(encoding, errors))
        except UnicodeEncodeError:
            continue
    return readings


def _answer(
    method: str,
    query: str | Mapping[str, str],
    authorization: str | None,
    source: MetricsSource,
    key: str | None,
) -> ExpositionResponse:
    if method == "OPTIONS":
        return ExpositionResponse(HTTPStatus.NO_CONTENT, {"Allow": _ALLOWED_METHODS}, b"")
    if method not in ("GET", "HEAD"):
        raise _RefusedError(
            HTTPStatus.METHOD_NOT_ALLOWED,
            "metrics can only be read: use GET",
            "method_not_allowed",
            headers={"Allow": _ALLOWED_METHODS},
        )
    if key and not bearer_matches(authorization, key):
        raise _RefusedError(
            HTTPStatus.UNAUTHORIZED,
            "a valid key is needed: send it as 'Authorization: Bearer KEY'",
            "invalid_api_key",
            headers={"WWW-Authenticate": 'Bearer realm="metrics"'},
        )
    return _metrics(_parameters(query), source)


def _metrics(parameters: Mapping[str, str], source: MetricsSource) -> ExpositionResponse:
    wanted = _wanted_categories(parameters.get("category"))
    match parameters.get("format", "json"):
        case "json":
            content_type, body = _JSON_CONTENT_TYPE, _json_body(source, wanted)
        case "prometheus":
            content_type, body = PROMETHEUS_CONTENT_TYPE, source.prometheus().encode()
        case _:
            raise _RefusedError(
                HTTPStatus.BAD_REQUEST,
                f"unknown format: expected one of {', '.join(FORMATS)}",
                "unknown_format",
                param="format",
            )
    return ExpositionResponse(HTTPStatus.OK, {"Content-Type": content_type}, body)


def _wanted_categories(category: str | None) -> tuple[str, ...]:
    if category is None:
        return CATEGORIES
    wanted = tuple(name.strip() for name in category.split(","))
    if not set(wanted) <= set(CATEGORIES):
        raise _RefusedError(
            HTTPStatus.BAD_REQUEST,
            f"unknown category: expected some of {', '.join(CATEGORIES)}, comma-separated",
            "unknown_category",
            param="category",
        )
    return wanted


def _json_body(source: MetricsSource, wanted: tuple[str, ...]) -> bytes:
    kept = {name: value for name, value in source.snapshot().items() if name in (*_ALWAYS, *wanted)}
    return json.dumps(kept, allow_nan=False).encode()


def _parameters(query: str | Mapping[str, str]) -> Mapping[str, str]:
    if not isinstance(query, str):
        return query
    parameters: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        both = name == "category" and name in parameters
        parameters[name] = f"{parameters[name]},{value}" if both else value
    return parameters


def _finished(
    answer: ExpositionResponse, method: str, allow_origin: str | None
) -> ExpositionResponse:
    """Add the headers that every answer has; a HEAD gets them without the body."""
    headers = {**answer.headers, "Cache-Control": "no-store"}
    if answer.status != HTTPStatus.NO_CONTENT:
        headers["Content-Length"] = str(len(answer.body))
    if allow_origin is not None:
        headers["Access-Control-Allow-Origin"] = allow_origin
        headers["Access-Control-Allow-Methods"] = _ALLOWED_METHODS
        headers["Access-Control-Allow-Headers"] = "Authorization"
    return ExpositionResponse(int(answer.status), headers, b"" if method == "HEAD" else answer.body)
