"""Answers GET /v1/metrics, for any HTTP server: a request's parts in, status and bytes out."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl

from harden.bearer import bearer_matches
from harden.error_answer import ErrorAnswer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "CATEGORIES",
    "FORMATS",
    "PROMETHEUS_CONTENT_TYPE",
    "ExpositionResponse",
    "MetricsSource",
    "respond",
]

CATEGORIES = ("cache", "latency", "memory", "throughput", "requests", "tokens", "worker")
FORMATS = ("json", "prometheus")
PROMETHEUS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_LOG = logging.getLogger(__name__)
_ALL_CATEGORIES = ",".join(CATEGORIES)
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
        query: the query string, or its parameters. `format` is json
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
    except Exception as error:  # noqa: BLE001 - a source is anybody's code; its error is our 500
        # Only the type: an error's text and traceback hold paths.
        _LOG.error("the metrics could not be read: %s", type(error).__name__)
        answer = _error(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "the metrics could not be read; the server's log says more",
            "metrics_unavailable",
        )
    return _finished(answer, method, allow_origin)


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
        return _error(
            HTTPStatus.METHOD_NOT_ALLOWED,
            "metrics can only be read: use GET",
            "method_not_allowed",
            headers={"Allow": _ALLOWED_METHODS},
        )
    if key and not bearer_matches(authorization, key):
        return _error(
            HTTPStatus.UNAUTHORIZED,
            "a valid key is needed: send it as 'Authorization: Bearer KEY'",
            "invalid_api_key",
        )
    return _metrics(_parameters(query), source)


def _metrics(parameters: Mapping[str, str], source: MetricsSource) -> ExpositionResponse:
    wanted = [name.strip() for name in parameters.get("category", _ALL_CATEGORIES).split(",")]
    if not set(wanted) <= set(CATEGORIES):
        return _bad_parameter("category", f"expected some of {_ALL_CATEGORIES}, comma-separated")
    match parameters.get("format", "json"):
        case "json":
            return _json(HTTPStatus.OK, _kept(source.snapshot(), wanted))
        case "prometheus":
            text = source.prometheus().encode()
            return ExpositionResponse(
                HTTPStatus.OK, {"Content-Type": PROMETHEUS_CONTENT_TYPE}, text
            )
        case _:
            return _bad_parameter("format", f"expected {' or '.join(FORMATS)}")


def _kept(snapshot: Mapping[str, Any], wanted: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in snapshot.items() if name in (*_ALWAYS, *wanted)}


def _parameters(query: str | Mapping[str, str]) -> Mapping[str, str]:
    """Return the parameters; a category that is given twice means both."""
    if not isinstance(query, str):
        return query
    parameters: dict[str, str] = {}
    for name, value in parse_qsl(query.removeprefix("?"), keep_blank_values=True):
        both = name == "category" and name in parameters
        parameters[name] = f"{parameters[name]},{value}" if both else value
    return parameters


def _bad_parameter(param: str, expected: str) -> ExpositionResponse:
    return _error(
        HTTPStatus.BAD_REQUEST, f"unknown {param}: {expected}", f"unknown_{param}", param=param
    )


def _error(
    status: HTTPStatus,
    message: str,
    code: str,
    *,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> ExpositionResponse:
    error = ErrorAnswer(status, message, code, param)
    headers = {"Content-Type": _JSON_CONTENT_TYPE, **error.headers, **(headers or {})}
    return ExpositionResponse(status, headers, error.body())


def _json(
    status: HTTPStatus, content: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> ExpositionResponse:
    body = json.dumps(content, allow_nan=False).encode()
    return ExpositionResponse(status, {"Content-Type": _JSON_CONTENT_TYPE, **(headers or {})}, body)


def _finished(
    answer: ExpositionResponse, method: str, allow_origin: str | None
) -> ExpositionResponse:
    """Add the headers that every answer has; a HEAD gets them without the body."""
    headers = {**answer.headers, "Cache-Control": "no-store"}
    if answer.status != HTTPStatus.NO_CONTENT:
        headers["Content-Length"] = str(len(answer.body))
    if allow_origin is not None:
        headers |= {
            "Access-Control-Allow-Origin": allow_origin,
            "Access-Control-Allow-Methods": _ALLOWED_METHODS,
            "Access-Control-Allow-Headers": "Authorization",
            "Vary": "Origin",
        }
    body = b"" if method == "HEAD" else answer.body
    return ExpositionResponse(int(answer.status), headers, body)
