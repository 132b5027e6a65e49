"""The gateway's endpoints as an aiohttp application."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from typing import TYPE_CHECKING, Any

from aiohttp import web

from harden import exposition
from harden.gateway.authentication import require_key
from harden.gateway.call import parse_call
from harden.gateway.client_answer import ClientAnswer, ClientLeftError
from harden.gateway.refusal import Refusal
from harden.metrics_routes import METRICS_PATHS, metrics_query
from harden.request_record import CLIENT_CLOSED_REQUEST, RequestRecord

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from harden.gateway.completion import Completion
    from harden.gateway.configuration import GatewayConfiguration
    from harden.gateway.dispatch import Dispatch
    from harden.gateway.supervisor import Supervisor
    from harden.server_metrics import ServerMetrics

__all__ = ["Application"]

access_log = logging.getLogger("harden.access")
logger = logging.getLogger(__name__)

_COMPLETION_PATHS = {
    "/v1/chat/completions": "/v1/chat/completions",
    "/chat/completions": "/v1/chat/completions",
    "/v1/completions": "/v1/completions",
}

_STATUS_TIMEOUT_S = 1.0


class Application:
    """Routes, and what every request goes through.

    Attributes:
        draining: new requests are refused.
        idle: set while no completion request is unanswered.
    """

    def __init__(
        self,
        configuration: GatewayConfiguration,
        completion: Completion,
        dispatch: Dispatch,
        supervisor: Supervisor,
        metrics: ServerMetrics,
    ) -> None:
        self._configuration = configuration
        self._completion = completion
        self._dispatch = dispatch
        self._supervisor = supervisor
        self._metrics = metrics
        self._created = int(time.time())
        self.draining = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ending = False
        self.idle = asyncio.Event()
        self.idle.set()

    def build(self) -> web.Application:
        """The aiohttp application."""
        application = web.Application(
            middlewares=[self._every_request],
            client_max_size=self._configuration.max_body_bytes,
        )
        for path in _COMPLETION_PATHS:
            application.router.add_post(path, self._complete)
        for path in METRICS_PATHS:
            application.router.add_route("*", path, self._expose)
        application.router.add_get("/v1/models", self._models)
        application.router.add_get("/v1/models/{name:.+}", self._models)
        application.router.add_get("/health", self._health)
        application.router.add_get("/ready", self._ready)
        return application

    @property
    def in_flight(self) -> int:
        """Completion requests that have not been answered yet."""
        return len(self._tasks)

    async def end_requests(self) -> None:
        """Answer every request that is still unanswered with an error."""
        self._ending = True
        for task in self._tasks:
            task.cancel()
        await self.idle.wait()

    @web.middleware
    async def _every_request(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        started = time.monotonic()
        request_id = _request_id(request)
        request["headers"] = {"X-Request-Id": request_id, **self._cors(request)}
        status = CLIENT_CLOSED_REQUEST
        try:
            response = await self._answer(request, handler)
            status = request.get("status", response.status)
        finally:
            access_log.log(
                logging.INFO if request.path in _COMPLETION_PATHS else logging.DEBUG,
                "%s %s %s %d %.0f ms%s",
                *(request_id, request.method, request.path, status),
                *((time.monotonic() - started) * 1000, request.get("note", "")),
            )
        return response

    async def _answer(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        headers = request["headers"]
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
        allowed = self._configuration.allowed_origins
        if origin is None or not ("*" in allowed or origin in allowed):
            return {}
        return {
            "Access-Control-Allow-Origin": "*" if "*" in allowed else origin,
            "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
            "Access-Control-Allow-Headers": "Authorization, Content-Type, X-Request-Id",
            **({} if "*" in allowed else {"Vary": "Origin"}),
        }

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        record = RequestRecord()
        answer = ClientAnswer(request, request["headers"])
        self._metrics.request_received()
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - aiohttp runs handlers in tasks
        self._tasks.add(task)
        self.idle.clear()
        try:
            await self._serve(request, answer, record)
        except Refusal as refusal:
            record.status = refusal.status
            await answer.refuse(refusal)
        except web.HTTPException as error:
            record.status = error.status
            raise
        except ClientLeftError:
            record.status = CLIENT_CLOSED_REQUEST
        except asyncio.CancelledError:
            if not self._ending:
                raise
            task.uncancel()
            record.status = 503
            await answer.refuse(_stopping())
        except Exception:
            record.status = 500
            raise
        finally:
            self._tasks.discard(task)
            if not self._tasks:
                self.idle.set()
            self._metrics.request_finished(record.outcome())
            request["status"] = record.status
            request["note"] = _note(record)
        return answer.response

    async def _serve(
        self, request: web.Request, answer: ClientAnswer, record: RequestRecord
    ) -> None:
        require_key(request.headers.get("Authorization"), self._configuration.api_key)
        if self.draining:
            raise _stopping()
        raw = await request.read()
        path = _COMPLETION_PATHS[request.path]
        call = parse_call(path, raw, self._configuration.model_name)
        await self._completion.serve(call, answer, record)

    async def _models(self, request: web.Request) -> web.StreamResponse:
        require_key(request.headers.get("Authorization"), self._configuration.api_key)
        name = self._configuration.model_name
        if name is None:
            return await self._models_of_backend(request)
        model = {"id": name, "object": "model", "created": self._created, "owned_by": "harden"}
        wanted = request.match_info.get("name")
        if wanted is None:
            return web.json_response({"object": "list", "data": [model]})
        if wanted != name:
            raise Refusal(404, f"This server has only the model {name!r}.", code="model_not_found")
        return web.json_response(model)

    async def _models_of_backend(self, request: web.Request) -> web.StreamResponse:
        worker = self._dispatch.worker
        if worker is None:
            raise Refusal(503, "The model is still loading.", code="starting", retry_after_s=2)
        async with worker.session.get(worker.url(request.path)) as response:
            body = await response.read()
        return web.Response(status=response.status, body=body, content_type="application/json")

    async def _health(self, request: web.Request) -> web.StreamResponse:  # noqa: ARG002
        return web.json_response({"status": "ok"})

    async def _ready(self, request: web.Request) -> web.StreamResponse:  # noqa: ARG002
        if self.draining:
            raise _stopping()
        if self._dispatch.worker is None:
            raise Refusal(503, "No worker is ready.", code="starting", retry_after_s=1)
        return web.json_response({"status": "ready"})

    async def _expose(self, request: web.Request) -> web.StreamResponse:
        worker = self._supervisor.current
        if request.method == "GET" and worker is not None:
            try:
                async with asyncio.timeout(_STATUS_TIMEOUT_S):
                    await worker.read_status()
            except TimeoutError:
                logger.debug("The worker did not give its figures in time")
        answer = exposition.respond(
            request.method,
            metrics_query(request.path_qs),
            request.headers.get("Authorization"),
            self._metrics,
            self._configuration.metrics_key,
        )
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)


def _request_id(request: web.Request) -> str:
    given = request.headers.get("X-Request-Id", "")
    if 0 < len(given) <= 128 and given.isascii() and given.isprintable() and " " not in given:  # noqa: PLR2004
        return given
    return uuid.uuid4().hex


def _stopping() -> Refusal:
    return Refusal(503, "The server is stopping.", code="draining", retry_after_s=5)


def _error_response(refusal: Refusal, headers: dict[str, str]) -> web.Response:
    return web.Response(
        status=refusal.status,
        body=refusal.body(),
        headers={**headers, **refusal.headers},
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


def _note(record: RequestRecord) -> str:
    if record.generation_tokens is None:
        return ""
    ttft_s = record.time_to_first_token_s
    first = "" if ttft_s is None else f", first after {ttft_s * 1000:.0f} ms"
    return f", {record.prompt_tokens} + {record.generation_tokens} tokens{first}"
