"""A running server as a test sees it: ask it something, read its metrics, find its processes."""

from __future__ import annotations

import http.client
import json
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from harden.exceptions import NetworkError
from harden.sse import SseParser

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from harden.server_process import ServerProcess

__all__ = ["Answer", "ServerHandle"]

_OK = 200
_READ_SIZE = 65_536


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one request.

    Attributes:
        status: HTTP status.
        text: the generated text; empty for an error.
        usage: OpenAI's usage object; empty where none came.
        ttft_ms: time from sending the request to the first event with text in it, in
            milliseconds; None for an error.
        finish_reason: why generation ended, where it did.
        error: OpenAI's error object, if the answer or the stream's end is one.
    """

    status: int
    text: str = ""
    usage: Mapping[str, Any] = field(default_factory=dict)
    ttft_ms: float | None = None
    finish_reason: str | None = None
    error: Mapping[str, Any] | None = None


class ServerHandle:
    """A server by its URL and, where we started it, its process.

    Attributes:
        url: address without a trailing slash.
        process: the process behind it, or None for somebody else's server.
        cache_dir: folder of its prompt cache on disk, or None.
    """

    def __init__(
        self, url: str, process: ServerProcess | None = None, cache_dir: Path | None = None
    ) -> None:
        """Keys are read from HARDEN_API_KEY and METRICS_API_KEY, as the server does."""
        self.url = url.rstrip("/")
        self.process = process
        self.cache_dir = cache_dir

    @property
    def pid(self) -> int | None:
        """Process id of the server (of the gateway, for ours)."""
        return self.process.pid if self.process else None

    @property
    def worker_pid(self) -> int | None:
        """Process id of the process that runs the model, as the metrics tell."""
        pid = self.metrics()["worker"]["pid"]
        return int(pid) if pid is not None else None

    @property
    def log(self) -> str:
        """The last thousand lines that the server wrote; empty for somebody else's server."""
        return self.process.log_tail(1000) if self.process else ""

    def metrics(self, *categories: str) -> dict[str, Any]:
        """The server's ``/v1/metrics``, all of it or some categories.

        Raises:
            NetworkError: there is no such endpoint, or it refused.
        """
        query = f"?category={','.join(categories)}" if categories else ""
        key = os.environ.get("METRICS_API_KEY") or os.environ.get("HARDEN_API_KEY")
        status, body = self.request("GET", f"/v1/metrics{query}", key=key)
        if status != _OK:
            raise NetworkError(
                f"{self.url}/v1/metrics answered {status}; is it a server with harden's metrics,"
                " and is METRICS_API_KEY set as for the server?"
            )
        figures: dict[str, Any] = json.loads(body)
        return figures

    def request(
        self, method: str, path: str, body: bytes | None = None, *, key: str | None = None
    ) -> tuple[int, bytes]:
        """Send one request; status and body of the answer."""
        connection = self._connection()
        try:
            connection.request(method, path, body, _headers(key))
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def chat(self, prompt: str, *, max_tokens: int = 8, **fields: Any) -> Answer:
        """Ask one question and stream the answer.

        Args:
            prompt: the user's message.
            max_tokens: longest answer.
            fields: further fields of the request, such as ``temperature``.
        """
        body = {
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            **fields,
        }
        connection = self._connection()
        try:
            sent = time.perf_counter()
            connection.request(
                "POST",
                "/v1/chat/completions",
                json.dumps(body).encode(),
                _headers(os.environ.get("HARDEN_API_KEY")),
            )
            return _read_answer(connection.getresponse(), sent)
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=600)


def _headers(key: str | None) -> dict[str, str]:
    authorization = {"Authorization": f"Bearer {key}"} if key else {}
    return {"Content-Type": "application/json", **authorization}


def _read_answer(response: http.client.HTTPResponse, sent: float) -> Answer:
    if response.status != _OK:
        return Answer(response.status, error=_error_of(response.read()))
    if "event-stream" not in response.headers.get("Content-Type", ""):
        return _whole_answer(response)
    usage: dict[str, Any] = {}
    text, ttft_ms, finish_reason, error = "", None, None, None
    for event in _json_events(response):
        error = event.get("error") or error
        usage = event.get("usage") or usage
        for choice in event.get("choices") or []:
            piece = (choice.get("delta") or {}).get("content") or choice.get("text") or ""
            if piece and ttft_ms is None:
                ttft_ms = (time.perf_counter() - sent) * 1000
            text += piece
            finish_reason = choice.get("finish_reason") or finish_reason
    return Answer(response.status, text, usage, ttft_ms, finish_reason, error)


def _whole_answer(response: http.client.HTTPResponse) -> Answer:
    fields = json.loads(response.read())
    choice = fields["choices"][0]
    text = (choice.get("message") or {}).get("content") or choice.get("text") or ""
    return Answer(
        response.status, text, fields.get("usage") or {}, finish_reason=choice.get("finish_reason")
    )


def _json_events(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    parser = SseParser()
    while chunk := response.read1(_READ_SIZE):
        for event in parser.feed(chunk):
            if event.comment is None and event.data != "[DONE]":
                yield json.loads(event.data)


def _error_of(body: bytes) -> dict[str, Any]:
    try:
        error = json.loads(body)["error"]
    except (ValueError, LookupError, TypeError):
        return {"message": body[:500].decode(errors="replace")}
    return error if isinstance(error, dict) else {"message": str(error)}
