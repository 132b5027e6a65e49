"""One completion request from arrival to answer: queue, attempt, and attempt again."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp

from harden.gateway.dispatch import Flight
from harden.gateway.refusal import Refusal
from harden.gateway.relay import StreamRelay, Usage, read_usage
from harden.redaction import redact
from harden.request_texts import request_texts
from harden.retrying import is_transport_error
from harden.sse import split_events
from harden.worker_protocol import DEADLINE_HEADER, GENERATION_LOST

if TYPE_CHECKING:
    from harden.gateway.admission import Admission
    from harden.gateway.call import CompletionCall
    from harden.gateway.client_answer import ClientAnswer
    from harden.gateway.configuration import GatewayConfiguration
    from harden.gateway.dispatch import Dispatch
    from harden.gateway.worker import Worker
    from harden.request_record import RequestRecord

__all__ = ["Completion"]

_OK = 200
_JUDGEMENT_TIMEOUT_S = 5.0


class AnswerLostError(Exception):
    """The worker went away, or lost the generation, before the answer was complete."""

    def __init__(self, batch: int | None = None) -> None:
        super().__init__("answer lost")
        self.batch = batch


@dataclass(frozen=True, slots=True)
class _Job:
    """One request with all that belongs to it."""

    call: CompletionCall
    answer: ClientAnswer
    record: RequestRecord
    deadline: float
    flight: Flight = field(default_factory=Flight)

    @property
    def left_s(self) -> float:
        return max(0.0, self.deadline - time.monotonic())


class Completion:
    """Serves completion requests; one object serves them all."""

    def __init__(
        self, configuration: GatewayConfiguration, admission: Admission, dispatch: Dispatch
    ) -> None:
        self._configuration = configuration
        self._admission = admission
        self._dispatch = dispatch

    async def serve(
        self, call: CompletionCall, answer: ClientAnswer, record: RequestRecord
    ) -> None:
        """Answer one request, well or badly.

        Args:
            call: the validated request.
            answer: where the answer goes.
            record: filled in for the metrics; ``status`` says how it ended.

        Raises:
            Refusal: an error that the client has not been told of yet.
        """
        if not self._dispatch.has_been_ready:
            raise Refusal(503, "The model is still loading.", code="starting", retry_after_s=2)
        limit_s = self._configuration.request_timeout_s
        job = _Job(call, answer, record, record.received + limit_s)
        try:
            async with asyncio.timeout(job.left_s):
                await self._serve_in_turn(job)
        except TimeoutError:
            message = f"The request took longer than {limit_s:g} seconds."
            raise Refusal(504, message, code="timeout") from None

    async def _serve_in_turn(self, job: _Job) -> None:
        interval_s = self._configuration.keepalive_interval_s
        keeper = job.answer.kept_alive(interval_s) if job.call.stream else nullcontext()
        async with keeper, self._admission.place():
            try:
                while not await self._attempt(job):
                    job.record.forget_attempt()
            finally:
                self._dispatch.close(job.flight)

    async def _attempt(self, job: _Job) -> bool:
        """Send the request once; whether it was answered. False means: again."""
        flight = job.flight
        worker = await self._dispatch.enter(flight)
        over = False
        try:
            await self._forward(worker, job)
            over = True
        except Refusal:
            over = True
            raise
        except AnswerLostError as lost:
            await self._await_judgement(worker, lost)
            over = True
            if flight.convicted or not flight.replayable:
                raise _lost(convicted=flight.convicted) from None
            return False
        finally:
            self._dispatch.leave(flight, answered=over)
        return True

    async def _await_judgement(self, worker: Worker, lost: AnswerLostError) -> None:
        if lost.batch is not None:
            self._dispatch.batch_lost(worker, lost.batch)
            return
        done, _ = await asyncio.wait({worker.gone}, timeout=_JUDGEMENT_TIMEOUT_S)
        if not done:  # it lives, but broke this answer off
            raise Refusal(500, "The server broke the answer off.", code="answer_broken")

    async def _forward(self, worker: Worker, job: _Job) -> None:
        job.record.started = time.monotonic()
        headers = {
            "Content-Type": "application/json",
            DEADLINE_HEADER: str(int(job.left_s * 1000) + 1),
        }
        try:
            async with worker.session.post(
                worker.url(job.call.path), data=job.call.body, headers=headers
            ) as response:
                if response.status != _OK:
                    raise _refused_upstream(response.status, await response.read(), job.call)
                if job.call.stream:
                    await _stream(response, job)
                else:
                    _answer_whole(await response.read(), job)
        except (aiohttp.ClientError, OSError) as error:
            if not is_transport_error(error):
                raise
            raise AnswerLostError from None


async def _stream(response: aiohttp.ClientResponse, job: _Job) -> None:
    relay = StreamRelay(wants_usage=job.call.wants_usage)
    rest = b""
    async for chunk in response.content.iter_any():
        events, rest = split_events(rest + chunk)
        passed = b"".join([relay.take(event) for event in events])
        if relay.error is not None:
            raise _error_in_stream(relay.error, job.call)
        if relay.has_content:
            job.record.token_seen()
        if relay.done:
            _complete(job.record, relay.usage, relay.finish_reason)
        if relay.has_events and passed:
            job.flight.replayable = False
            await job.answer.events(passed)
        elif passed:
            await job.answer.comments(passed)
    if not relay.done:
        raise AnswerLostError
    await job.answer.end()


def _complete(record: RequestRecord, usage: Usage, finish_reason: str | None) -> None:
    record.prompt_tokens = usage.prompt_tokens
    record.generation_tokens = usage.generation_tokens
    record.cached_tokens = usage.cached_tokens
    record.finish_reason = finish_reason
    record.status = _OK


def _answer_whole(body: bytes, job: _Job) -> None:
    try:
        fields = json.loads(body)
        choices = fields.get("choices") or [{}]
        _complete(job.record, read_usage(fields.get("usage")), choices[0].get("finish_reason"))
    except (ValueError, AttributeError, LookupError, TypeError):
        raise Refusal(500, "The server's answer was not readable.", code="bad_answer") from None
    job.answer.body(_OK, body)


def _refused_upstream(status: int, body: bytes, call: CompletionCall) -> Exception:
    """Upstream's refusal in our words; its own may hold paths or Python text."""
    error = _error_of(body)
    if error.get("code") == GENERATION_LOST:
        return AnswerLostError(error.get("lost_batch"))
    code = error.get("code") if isinstance(error.get("code"), str) else "upstream_error"
    message = error.get("message")
    if not isinstance(message, str):
        message = "The server could not process the request."
    told = redact(message, private=request_texts(json.loads(call.body)))
    return Refusal(status, told, code=str(code), param=error.get("param"))


def _error_in_stream(error: dict[str, Any], call: CompletionCall) -> Exception:
    return _refused_upstream(500, json.dumps({"error": error}).encode(), call)


def _error_of(body: bytes) -> dict[str, Any]:
    try:
        error = json.loads(body)["error"]
    except (ValueError, LookupError, TypeError):
        return {}
    return error if isinstance(error, dict) else {"message": error}


def _lost(*, convicted: bool) -> Refusal:
    if convicted:
        message = "The model crashed on this request; it will not be tried again."
        return Refusal(500, message, code="request_crashed_worker")
    return Refusal(500, "The model crashed while it was answering.", code="worker_crashed")
