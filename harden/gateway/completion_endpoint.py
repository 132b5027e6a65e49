"""The completion endpoints: count what comes, answer it, and end it when the server ends."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from aiohttp import web

from harden.gateway.authentication import require_key
from harden.gateway.call import parse_call
from harden.gateway.client_answer import ClientAnswer, ClientLeftError
from harden.gateway.edge import HEADERS, NOTE, STATUS
from harden.gateway.refusal import Refusal
from harden.request_record import CLIENT_CLOSED_REQUEST, RequestRecord
from harden.routes import COMPLETION_PATHS

if TYPE_CHECKING:
    from harden.gateway.completion import Completion
    from harden.gateway.configuration import GatewayConfiguration
    from harden.server_metrics import ServerMetrics

__all__ = ["CompletionEndpoint"]


class CompletionEndpoint:
    """Every completion request from its first byte to its place in the metrics.

    Attributes:
        draining: new requests are refused.
        idle: set while no request is unanswered.
    """

    def __init__(
        self, configuration: GatewayConfiguration, completion: Completion, metrics: ServerMetrics
    ) -> None:
        self._configuration = configuration
        self._completion = completion
        self._metrics = metrics
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ending = False
        self.draining = False
        self.idle = asyncio.Event()
        self.idle.set()

    @property
    def in_flight(self) -> int:
        """Requests that have not been answered yet."""
        return len(self._tasks)

    def require_running(self) -> None:
        """Refuse what comes while the server drains.

        Raises:
            Refusal: 503.
        """
        if self.draining:
            raise Refusal(503, "The server is stopping.", code="draining", retry_after_s=5)

    async def end_requests(self) -> None:
        """Answer every request that is still unanswered with an error."""
        self._ending = True
        for task in self._tasks:
            task.cancel()
        await self.idle.wait()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, and count it whatever becomes of it."""
        record = RequestRecord()
        headers = request[HEADERS]
        answer = ClientAnswer(request, headers)
        self._metrics.request_received()
        try:
            with self._in_flight():
                await self._answer(request, answer, record)
        finally:
            self._metrics.request_finished(record.outcome())
            request[STATUS] = record.status
            request[NOTE] = _note(record)
        return answer.response

    @contextlib.contextmanager
    def _in_flight(self) -> Any:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - aiohttp runs handlers in tasks
        self._tasks.add(task)
        self.idle.clear()
        try:
            yield
        finally:
            self._tasks.discard(task)
            if not self._tasks:
                self.idle.set()

    async def _answer(
        self, request: web.Request, answer: ClientAnswer, record: RequestRecord
    ) -> None:
        try:
            try:
                await self._serve(request, answer, record)
            except asyncio.CancelledError:
                self._raise_why_ended()
        except Refusal as refusal:
            record.status = refusal.answer.status
            with contextlib.suppress(ClientLeftError):
                await answer.refuse(refusal)
        except web.HTTPException as error:
            record.status = error.status
            raise
        except (ClientLeftError, ConnectionError):
            record.status = CLIENT_CLOSED_REQUEST
        except Exception:
            record.status = 500
            raise

    def _raise_why_ended(self) -> None:
        """A client that left needs no answer; a server that ends owes one."""
        task = asyncio.current_task()
        if not self._ending or task is None:
            raise asyncio.CancelledError
        task.uncancel()
        self.require_running()

    async def _serve(
        self, request: web.Request, answer: ClientAnswer, record: RequestRecord
    ) -> None:
        require_key(request.headers.get("Authorization"), self._configuration.api_key)
        self.require_running()
        raw = await request.read()
        path = COMPLETION_PATHS[request.path]
        call = parse_call(path, raw, self._configuration.model_name)
        await self._completion.serve(call, answer, record)


def _note(record: RequestRecord) -> str:
    if record.generation_tokens is None:
        return ""
    ttft_s = record.time_to_first_token_s
    first = "" if ttft_s is None else f", first after {ttft_s * 1000:.0f} ms"
    return f", {record.prompt_tokens} + {record.generation_tokens} tokens{first}"
