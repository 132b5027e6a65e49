"""The gateway's endpoints as an aiohttp application."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from aiohttp import web

from harden import exposition
from harden.gateway.authentication import require_key
from harden.gateway.edge import Edge
from harden.gateway.refusal import Refusal
from harden.routes import COMPLETION_PATHS, METRICS_PATHS, metrics_query

if TYPE_CHECKING:
    from harden.gateway.completion_endpoint import CompletionEndpoint
    from harden.gateway.configuration import GatewayConfiguration
    from harden.gateway.dispatch import Dispatch
    from harden.gateway.supervisor import Supervisor
    from harden.server_metrics import ServerMetrics

__all__ = ["Application"]

logger = logging.getLogger(__name__)

_STATUS_TIMEOUT_S = 1.0


class Application:
    """Routes, and the endpoints that tell of the server."""

    def __init__(
        self,
        configuration: GatewayConfiguration,
        completions: CompletionEndpoint,
        dispatch: Dispatch,
        supervisor: Supervisor,
        metrics: ServerMetrics,
    ) -> None:
        self._configuration = configuration
        self._completions = completions
        self._dispatch = dispatch
        self._supervisor = supervisor
        self._metrics = metrics
        self._created = int(time.time())

    def build(self) -> web.Application:
        """The aiohttp application."""
        application = web.Application(
            middlewares=[Edge(self._configuration.allowed_origins).every_request],
            client_max_size=self._configuration.max_body_bytes,
        )
        for path in COMPLETION_PATHS:
            application.router.add_post(path, self._completions.handle)
        for path in METRICS_PATHS:
            application.router.add_route("*", path, self._expose)
        application.router.add_get("/v1/models", self._models)
        application.router.add_get("/v1/models/{name:.+}", self._models)
        application.router.add_get("/health", self._health)
        application.router.add_get("/ready", self._ready)
        return application

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
            message = f"This server has only the model {name!r}."
            raise Refusal(404, message, code="model_not_found", param="model")
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
        self._completions.require_running()
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
