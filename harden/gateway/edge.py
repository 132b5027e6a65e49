"""What every request goes through: its id, CORS, errors in the client's words, one line of log."""

from __future__ import annotations

import logging
import time
import uuid
from typing import TYPE_CHECKING

from aiohttp import web

from harden.gateway.client_answer import ClientLeftError
from harden.gateway.refusal import Refusal
from harden.request_record import CLIENT_CLOSED_REQUEST
from harden.routes import COMPLETION_PATHS, METRICS_PATHS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["HEADERS", "NOTE", "STATUS", "Edge"]

access_log = logging.getLogger("harden.access")
logger = logging.getLogger(__name__)

HEADERS: web.RequestKey[dict[str, str]] = web.RequestKey("headers", dict)
"""Headers that every answer to this request carries."""
STATUS = web.RequestKey("status", int)
"""How the request ended, where that is not what the status line said."""
NOTE = web.RequestKey("note", str)
"""What the access log adds."""

_LONGEST_REQUEST_ID = 128


class Edge:
    """The middleware."""

    def __init__(self, allowed_origins: tuple[str, ...]) -> None:
        """``allowed_origins``: web origins for CORS, "*" for all."""
        self._allowed_origins = allowed_origins

    @web.middleware
    async def every_request(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Answer one request, well or with an error object, and log it."""
        started = time.monotonic()
        request_id = _request_id(request)
        request[HEADERS] = {"X-Request-Id": request_id, **self._cors(request)}
        status = CLIENT_CLOSED_REQUEST
        try:
            response = await self._answer(request, handler)
            status = request.get(STATUS, response.status)
        finally:
            access_log.log(
                logging.INFO if request.path in COMPLETION_PATHS else logging.DEBUG,
                "%s %s %s %d %.0f ms%s",
                *(request_id, request.method, request.path, status),
                *((time.monotonic() - started) * 1000, request.get(NOTE, "")),
            )
        return response

    async def _answer(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        headers = request[HEADERS]
        if request.method == "OPTIONS" and request.path not in METRICS_PATHS:
            return web.Response(status=204, headers=headers)
        try:
            response = await handler(request)
        except Refusal as refusal:
            return _error_response(refusal, headers)
        except web.HTTPException as error:
            return _error_response(_of_http_error(error), {**headers, **_allow(error)})
        except ClientLeftError:
            raise
        except Exception:
            logger.exception("%s failed", headers["X-Request-Id"])
            failed = Refusal(500, "The server failed on this request.", code="internal_error")
            return _error_response(failed, headers)
        if not response.prepared:
            response.headers.update(headers)
        return response

    def _cors(self, request: web.Request) -> dict[str, str]:
        origin = request.headers.get("Origin")
        allowed = self._allowed_origins
        if origin is None or not ("*" in allowed or origin in allowed):
            return {}
        return {
            "Access-Control-Allow-Origin": "*" if "*" in allowed else origin,
            "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
            "Access-Control-Allow-Headers": "Authorization, Content-Type, X-Request-Id",
            **({} if "*" in allowed else {"Vary": "Origin"}),
        }


def _request_id(request: web.Request) -> str:
    given = request.headers.get("X-Request-Id", "")
    plain = given.isascii() and given.isprintable() and " " not in given
    return given if plain and 0 < len(given) <= _LONGEST_REQUEST_ID else uuid.uuid4().hex


def _error_response(refusal: Refusal, headers: dict[str, str]) -> web.Response:
    return web.Response(
        status=refusal.answer.status,
        body=refusal.answer.body(),
        headers={**headers, **refusal.answer.headers},
        content_type="application/json",
    )


def _of_http_error(error: web.HTTPException) -> Refusal:
    messages = {
        404: ("There is nothing at this address.", "not_found"),
        405: ("This address does not take this method.", "method_not_allowed"),
        413: ("The request's body is too large.", "body_too_large"),
    }
    message, code = messages.get(error.status, (error.reason, "http_error"))
    return Refusal(error.status, message, code=code)


def _allow(error: web.HTTPException) -> dict[str, str]:
    return {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
