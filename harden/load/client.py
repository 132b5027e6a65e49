"""A client for OpenAI-style chat completions that takes the time of every byte.

Only the standard library is used: under Locust its sockets are gevent's, elsewhere they are
the system's. ``read1`` hands over what has arrived, for chunked and for close-delimited bodies
alike, which is what a right TTFT depends on.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harden.load.connection import bearer_headers, check_url, open_connection, path_of
from harden.load.measurement import (
    StreamMeasurement,
    error_of,
    finish_reason_of,
    usage_of,
)
from harden.load.records import Outcome, RequestRecord
from harden.sse import EventTooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["ChatRequest", "CompletionClient"]

_READ_BYTES = 65536
_OK = 200


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One request to send.

    Attributes:
        scenario: name of its scenario, for the record.
        stage: name of its stage, for the record.
        prompt: text of the user's message.
        max_tokens: most tokens to generate.
        streamed: whether to ask for events.
    """

    scenario: str
    stage: str
    prompt: str
    max_tokens: int
    streamed: bool


class CompletionClient:
    """Sends one request at a time, each on a connection of its own.

    An idle connection that the server closes can so never be taken for a failed request.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 300.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Describe the server; nothing is sent yet.

        Args:
            url: its base URL.
            api_key: key sent as a bearer token, if any.
            timeout_s: longest wait for the next byte.
            clock: monotonic clock, in seconds.

        Raises:
            ValidationError: the URL is not one.
        """
        self._url = check_url(url)
        self._headers = {"Content-Type": "application/json", **bearer_headers(api_key)}
        self._timeout_s = timeout_s
        self._clock = clock
        self._model: str | None = None

    def find_model(self) -> str | None:
        """Ask once which model the server serves, and name it in every request from now on.

        Returns:
            The first name that ``/v1/models`` lists; None where it lists none, and then
            requests name no model.
        """
        with contextlib.suppress(
            OSError, http.client.HTTPException, LookupError, TypeError, ValueError
        ):
            with self._exchange("GET", "/v1/models") as response:
                models = json.loads(response.read())
            self._model = str(models["data"][0]["id"])
        return self._model

    def complete(self, request: ChatRequest, intended_s: float) -> RequestRecord:
        """Send a request, wait for the whole answer, and say how it went.

        Args:
            request: what to send.
            intended_s: when it should have been sent, on this client's clock.

        Returns:
            The record; failures are in it, none is raised.
        """
        attempt = _Attempt(request, intended_s, self._clock())
        body = json.dumps(self._body(request)).encode()
        try:
            with self._exchange("POST", "/v1/chat/completions", body, attempt) as response:
                attempt.status = response.status
                if request.streamed and response.status == _OK:
                    self._read_stream(response, attempt)
                else:
                    attempt.body = response.read()
                    attempt.size_bytes = len(attempt.body)
        except (OSError, http.client.HTTPException, EventTooLargeError) as error:
            attempt.transport_error = f"{type(error).__name__}: {error}"
        return attempt.record(self._clock())

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        body: dict[str, Any] = {
            "messages": [{"role": "user", "content": request.prompt}],
            "max_tokens": request.max_tokens,
            "temperature": 0,
        }
        if request.streamed:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return body if self._model is None else {"model": self._model, **body}

    def _read_stream(self, response: http.client.HTTPResponse, attempt: _Attempt) -> None:
        while chunk := response.read1(_READ_BYTES):
            attempt.stream.feed(chunk, self._clock())
            attempt.size_bytes += len(chunk)

    @contextlib.contextmanager
    def _exchange(
        self, method: str, path: str, body: bytes | None = None, attempt: _Attempt | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        connection = open_connection(self._url, self._timeout_s)
        try:
            connection.connect()
            if attempt:
                attempt.sent_s = self._clock()
            connection.request(method, path_of(self._url, path), body, self._headers)
            yield connection.getresponse()
        finally:
            connection.close()


class _Attempt:
    """What is known of a request while it runs."""

    def __init__(self, request: ChatRequest, intended_s: float, started_s: float) -> None:
        self._request = request
        self._intended_s = intended_s
        self._started_s = started_s
        self.sent_s = started_s
        self.stream = StreamMeasurement()
        self.status: int | None = None
        self.body = b""
        self.size_bytes = 0
        self.transport_error: str | None = None

    def record(self, end_s: float) -> RequestRecord:
        outcome, error = self._judge()
        usage = self.stream.usage
        return RequestRecord(
            scenario=self._request.scenario,
            stage=self._request.stage,
            streamed=self._request.streamed,
            intended_s=self._intended_s,
            started_s=self._started_s,
            sent_s=self.sent_s,
            end_s=end_s,
            outcome=outcome,
            status=self.status,
            first_token_s=self.stream.first_token_s,
            last_token_s=self.stream.last_token_s,
            finish_reason=self.stream.finish_reason,
            prompt_tokens=usage.prompt_tokens if usage else None,
            completion_tokens=usage.completion_tokens if usage else None,
            error=error,
            size_bytes=self.size_bytes,
        )

    def _judge(self) -> tuple[Outcome, str | None]:
        if self.transport_error:
            return Outcome.LOST, self.transport_error
        if self.status != _OK:
            return Outcome.REFUSED, f"{self.status}: {error_of(self._json() or 'no JSON body')}"
        return self._judge_stream() if self._request.streamed else self._judge_body()

    def _judge_stream(self) -> tuple[Outcome, str | None]:
        if self.stream.error:
            return Outcome.BROKEN, self.stream.error
        if not self.stream.done:
            return Outcome.LOST, "the stream ended without [DONE]"
        if self.stream.finish_reason is None:
            return Outcome.BROKEN, "the stream ended without a finish_reason"
        return Outcome.SUCCEEDED, None

    def _judge_body(self) -> tuple[Outcome, str | None]:
        message = self._json()
        if not isinstance(message, dict):
            return Outcome.BROKEN, "the answer is not a JSON object"
        self.stream.usage = usage_of(message)
        self.stream.finish_reason = finish_reason_of(message)
        if self.stream.finish_reason is None:
            return Outcome.BROKEN, "the answer has no finish_reason"
        return Outcome.SUCCEEDED, None

    def _json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError:
            return None
