"""Upstream's HTTP handler with metrics, model names, honest errors, and an end to lost requests."""

from __future__ import annotations

import json
import select
import socket
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import mlx_lm.server as upstream

from harden import exposition
from harden.bearer import bearer_matches
from harden.mlx.measurement import MeasuredGenerator
from harden.mlx.refusal import Refusal
from harden.request_record import CLIENT_CLOSED_REQUEST, RequestRecord
from harden.routes import COMPLETION_PATHS, METRICS_PATHS, metrics_query
from harden.sse import format_event
from harden.worker_protocol import DEADLINE_HEADER, STATUS_PATH

if TYPE_CHECKING:
    from collections.abc import Mapping
    from http.client import HTTPMessage

    from harden.mlx.service import Service

__all__ = ["APIHandler"]

_CONNECTION_CHECK_INTERVAL_S = 0.1


class ClientGoneError(ConnectionError):
    """The client closed its connection before its answer was complete."""


class APIHandler(upstream.APIHandler):  # type: ignore[misc]  # mlx_lm publishes no types
    """One connection. The process-wide parts are reached through the generator's ``service``."""

    headers: HTTPMessage
    connection: socket.socket
    response_generator: Any
    requested_model: str

    def __init__(self, response_generator: Any, *args: Any, **kwargs: Any) -> None:
        """As upstream's; ``response_generator`` belongs to a harden Service."""
        self.service: Service = response_generator.service
        self._status: int | None = None
        self._headers_sent = False
        super().__init__(response_generator, *args, **kwargs)

    def address_string(self) -> str:
        """The client's address, which a unix socket does not have."""
        return self.client_address[0] if self.client_address else "unix socket"

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        """One line a request, unless a gateway in front writes it."""
        if not self.service.behind_gateway:
            super().log_request(code, size)

    def send_response(self, code: int, message: str | None = None) -> None:
        """As http.server's; the status is kept for the metrics."""
        self._status = code
        super().send_response(code, message)

    def end_headers(self) -> None:
        """As http.server's; from here on an error can only be an event in the stream."""
        super().end_headers()
        self._headers_sent = True

    def do_GET(self) -> None:  # noqa: N802 - http.server's name
        """Answer the endpoints that upstream lacks, and leave the others to it."""
        path = urlsplit(self.path).path
        if path in METRICS_PATHS:
            self._expose("GET")
        elif path == "/ready":
            self._send_ready()
        elif path == STATUS_PATH and self.service.behind_gateway:
            self._send_json(200, json.dumps(self.service.status()).encode())
        else:
            super().do_GET()

    def do_OPTIONS(self) -> None:  # noqa: N802 - http.server's name
        """CORS preflight."""
        if urlsplit(self.path).path in METRICS_PATHS:
            self._expose("OPTIONS")
        else:
            super().do_OPTIONS()

    def do_POST(self) -> None:  # noqa: N802 - http.server's name
        """Measure a completion request, and answer in words when it cannot be served."""
        path = urlsplit(self.path).path
        if path in METRICS_PATHS:
            self._expose("POST")
            return
        if path not in COMPLETION_PATHS:
            super().do_POST()
            return
        self._measure_completion()

    def _measure_completion(self) -> None:
        record = RequestRecord(status=500)
        self._deadline = self._read_deadline()
        self._next_connection_check = 0.0
        generator = self.response_generator
        self.response_generator = MeasuredGenerator(generator, record, self._check)
        self.service.metrics.request_received()
        try:
            self._require_key()
            with generator.progress.request():
                super().do_POST()
            record.status = self._status or record.status
        except Refusal as refusal:
            record.status = refusal.answer.status
            self._refuse(refusal)
        except OSError:
            record.status = CLIENT_CLOSED_REQUEST
        finally:
            self.response_generator = generator
            self.service.metrics.request_finished(record.outcome())

    def _require_key(self) -> None:
        key = self.service.api_key
        if key and not bearer_matches(self.headers.get("Authorization"), key):
            message = "This server wants a key: send 'Authorization: Bearer <key>'."
            raise Refusal(401, message, code="invalid_api_key")

    def _read_deadline(self) -> float | None:
        timeout_ms = self.headers.get(DEADLINE_HEADER, "")
        return time.monotonic() + int(timeout_ms) / 1000 if timeout_ms.isdigit() else None

    def _check(self) -> None:
        now = time.monotonic()
        if now < self._next_connection_check:
            return
        self._next_connection_check = now + _CONNECTION_CHECK_INTERVAL_S
        if self._deadline is not None and now > self._deadline:
            raise Refusal(504, "The request took longer than its time limit.", code="timeout")
        if _is_closed(self.connection):
            raise ClientGoneError

    def _refuse(self, refusal: Refusal) -> None:
        answer = refusal.answer
        try:
            if not self._headers_sent:
                self._headers_buffer: list[bytes] = []  # upstream may have begun a 200 in it
                self._send_json(answer.status, answer.body(), answer.headers)
            else:
                self.wfile.write(format_event(answer.json()))
                self.wfile.flush()
        except OSError:
            self.close_connection = True

    def _send_json(
        self, status: int, body: bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self._set_cors_headers()
        self.end_headers()
        self.wfile.write(body)

    def _send_ready(self) -> None:
        ready = self.service.is_ready()
        body = json.dumps({"status": "ready" if ready else "not ready"}).encode()
        self._send_json(200 if ready else 503, body)

    def _expose(self, method: str) -> None:
        answer = exposition.respond(
            method,
            metrics_query(self.path),
            self.headers.get("Authorization"),
            self.service.metrics,
            self.service.metrics_key,
        )
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    def validate_model_parameters(self) -> None:
        """Upstream's checks; then the model's public name becomes upstream's "default_model"."""
        super().validate_model_parameters()
        self._public_model = self.requested_model
        if self.service.model_name is None:
            return
        if self.requested_model not in (self.service.model_name, "default_model"):
            raise _unknown_model(f"This server has only the model {self.service.model_name!r}.")
        self._public_model = self.service.model_name
        self.requested_model = "default_model"

    def generate_response(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As upstream's, under the model's public name."""
        return {**super().generate_response(*args, **kwargs), "model": self._public_model}

    def completion_usage_response(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As upstream's, under the model's public name."""
        return {**super().completion_usage_response(*args, **kwargs), "model": self._public_model}

    def handle_models_request(self) -> None:
        """List names of models, never paths; a machine without a model cache has none."""
        try:
            self._require_key()
        except Refusal as refusal:
            self._refuse(refusal)
            return
        wanted = urlsplit(self.path).path.removeprefix("/v1/models").strip("/")
        names = [name for name in self.service.model_names() if wanted in ("", name)]
        if wanted and not names:
            self._refuse(_unknown_model(f"This server has no model {wanted!r}."))
            return
        models = [{"id": n, "object": "model", "created": self.created} for n in names]
        self._send_json(200, json.dumps({"object": "list", "data": models}).encode())


def _unknown_model(message: str) -> Refusal:
    return Refusal(404, message, code="model_not_found", param="model")


def _is_closed(connection: socket.socket) -> bool:
    try:
        readable, _, _ = select.select([connection], [], [], 0)
        return bool(readable) and connection.recv(1, socket.MSG_PEEK) == b""
    except (OSError, ValueError):
        return True
