"""harden.load.client: times and outcomes of real bytes on a real socket."""

from __future__ import annotations

import json
import os
import socketserver
import threading
import unittest
from unittest import mock

from harden.exceptions import ValidationError
from harden.load.client import ChatRequest, CompletionClient
from harden.load.connection import check_url
from harden.load.records import Outcome, RequestRecord

STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
USAGE = {"prompt_tokens": 5, "completion_tokens": 2}
FINISH = {"choices": [{"delta": {}, "finish_reason": "stop"}]}


def data(message: dict | str) -> bytes:
    return f"data: {message if isinstance(message, str) else json.dumps(message)}\n\n".encode()


def token(text: str = "a") -> bytes:
    return data({"choices": [{"delta": {"content": text}}]})


WHOLE = [token(), token(), data(FINISH), data({"choices": [], "usage": USAGE}), data("[DONE]")]


def chunked(pieces: list[bytes]) -> list[bytes]:
    return [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]


def json_answer(status: str, body: bytes) -> list[bytes]:
    return [b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status.encode(), len(body), body)]


class Clock:
    """Shows the number of the piece of the answer that is on its way."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class ScriptedServer(socketserver.ThreadingTCPServer):
    """Answers with given pieces, each written only when the one before it was read."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, pieces: list[bytes], clock: Clock) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pieces = pieces
        self.clock = clock
        self.read_again = threading.Semaphore(0)
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        line = self.rfile.readline().decode().strip()
        headers = {}
        while header := self.rfile.readline().decode().strip():
            name, _, value = header.partition(": ")
            headers[name.lower()] = value
        body = self.rfile.read(int(headers.get("content-length", 0)))
        self.server.requests.append((line, headers, body))
        for number, piece in enumerate(self.server.pieces, start=1):
            self.server.clock.now_s = float(number)
            self.wfile.write(piece)
            if number > 1:
                self.server.read_again.acquire(timeout=2)


class ClientTest(unittest.TestCase):
    def serve(self, pieces: list[bytes]) -> ScriptedServer:
        server = ScriptedServer(pieces, Clock())
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return server

    def complete(self, pieces: list[bytes], *, streamed: bool = True) -> RequestRecord:
        server = self.serve(pieces)
        client = CompletionClient(server.url, timeout_s=10, clock=server.clock)
        feed = CompletionClient._read_stream

        def let_go_on(client_self, response, attempt):
            take = attempt.stream.feed

            def take_and_say_so(chunk, time_s):
                take(chunk, time_s)
                server.read_again.release()

            attempt.stream.feed = take_and_say_so
            feed(client_self, response, attempt)

        with mock.patch.object(CompletionClient, "_read_stream", let_go_on):
            return client.complete(ChatRequest("s", "measured", "hi", 8, streamed), 0.0)


class TestTimes(ClientTest):
    def test_pieces_are_seen_as_they_come(self):
        """Each event is timed when it arrives, in chunked and in close-delimited bodies."""
        keepalive, role = b": alive\n\n", data({"choices": [{"delta": {"role": "assistant"}}]})
        pieces = [keepalive, role, *WHOLE]
        heads = {
            "chunked": (STREAM_HEAD + b"Transfer-Encoding: chunked\r\n\r\n", chunked(pieces)),
            "closed": (STREAM_HEAD + b"Connection: close\r\n\r\n", pieces),
            "1.0": (b"HTTP/1.0 200 OK\r\n\r\n", pieces),
        }
        for name, (head, body) in heads.items():
            end = [b"0\r\n\r\n"] if name == "chunked" else []
            record = self.complete([head, *body, *end])
            self.assertEqual(record.first_token_s, 4.0, name)
            self.assertEqual(record.last_token_s, 5.0, name)
            self.assertGreaterEqual(record.end_s, 8.0, name)
            self.assertIs(record.outcome, Outcome.SUCCEEDED, record)
            self.assertEqual((record.prompt_tokens, record.completion_tokens), (5, 2))


class TestOutcomes(ClientTest):
    def outcome(self, pieces: list[bytes], *, streamed: bool = True) -> tuple[Outcome, str]:
        record = self.complete(pieces, streamed=streamed)
        return record.outcome, record.error or ""

    def test_unstreamed_success(self):
        """Usage and finish reason come from the body; there is no first token."""
        choice = {"message": {"content": "a"}, "finish_reason": "length"}
        body = json.dumps({"choices": [choice], "usage": USAGE}).encode()
        record = self.complete(json_answer("200 OK", body), streamed=False)
        self.assertIs(record.outcome, Outcome.SUCCEEDED)
        self.assertEqual((record.finish_reason, record.completion_tokens), ("length", 2))
        self.assertIsNone(record.ttft_ms)

    def test_refusal(self):
        """An error status is known on both sides, with or without an error object."""
        body = b'{"error": {"message": "full", "code": 429}}'
        for streamed in (True, False):
            pieces = json_answer("429 Too Many Requests", body)
            self.assertEqual(
                self.outcome(pieces, streamed=streamed), (Outcome.REFUSED, "429: full")
            )
        outcome, error = self.outcome(json_answer("500 Oops", b"<html>"))
        self.assertEqual((outcome, error), (Outcome.REFUSED, "500: no JSON body"))

    def test_cut_stream_is_lost(self):
        """A stream that ends without [DONE] was cut, however clean the close looks."""
        outcome, error = self.outcome([STREAM_HEAD + b"\r\n", token(), data(FINISH)])
        self.assertIs(outcome, Outcome.LOST)
        self.assertIn("[DONE]", error)

    def test_chunked_stream_that_breaks_off_is_lost(self):
        """A missing last chunk is a transport error."""
        head = STREAM_HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
        outcome, error = self.outcome([head, *chunked([token()])])
        self.assertIs(outcome, Outcome.LOST)
        self.assertTrue(error)

    def test_terminal_error_is_broken(self):
        """An error event ends the answer as failed, though its status was 200."""
        error_event = data({"error": {"message": "worker died"}})
        outcome = self.outcome([STREAM_HEAD + b"\r\n", token(), error_event, data("[DONE]")])
        self.assertEqual(outcome, (Outcome.BROKEN, "worker died"))

    def test_answers_without_an_end(self):
        """No finish reason is no whole answer."""
        self.assertIs(self.outcome([STREAM_HEAD + b"\r\n", data("[DONE]")])[0], Outcome.BROKEN)
        for body in (b"[]", b"{}", b"nothing"):
            outcome = self.outcome(json_answer("200 OK", body), streamed=False)[0]
            self.assertIs(outcome, Outcome.BROKEN)

    def test_nobody_listens(self):
        """A refused connection is a record, not an exception."""
        client = CompletionClient("http://127.0.0.1:1", timeout_s=1)
        record = client.complete(ChatRequest("s", "measured", "hi", 8, streamed=True), 0.0)
        self.assertIs(record.outcome, Outcome.LOST)
        self.assertIn("ConnectionRefusedError", record.error or "")


class TestRequest(ClientTest):
    def test_what_is_sent(self):
        """Model, key, temperature 0, fixed length; usage is asked for in a stream."""
        server = self.serve(json_answer("200 OK", b'{"data": [{"id": "tiny"}]}'))
        client = CompletionClient(server.url + "/base/", api_key="k", timeout_s=10)
        self.assertEqual(client.find_model(), "tiny")
        for streamed in (False, True):
            client.complete(ChatRequest("s", "measured", "hi", 8, streamed), 0.0)
        lines = [line for line, _headers, _body in server.requests]
        self.assertEqual(lines[0], "GET /base/v1/models HTTP/1.1")
        self.assertEqual(lines[1], "POST /base/v1/chat/completions HTTP/1.1")
        self.assertEqual({h["authorization"] for _l, h, _b in server.requests}, {"Bearer k"})
        plain = {
            "model": "tiny",
            "messages": [{"role": "user", "content": "hi"}],
            "max_tokens": 8,
            "temperature": 0,
        }
        streaming = {**plain, "stream": True, "stream_options": {"include_usage": True}}
        sent = [json.loads(body) for _line, _headers, body in server.requests[1:]]
        self.assertEqual(sent, [plain, streaming])

    def test_no_model_listed(self):
        """Then requests name none, as mlx_lm.server allows."""
        for body in (b"", b"{}", b'{"data": []}', b"[]", b'{"data": [5]}'):
            server = self.serve(json_answer("200 OK", body))
            self.assertIsNone(CompletionClient(server.url, timeout_s=10).find_model(), body)
        self.assertIsNone(CompletionClient("http://127.0.0.1:1").find_model())

    def test_proxies_of_the_environment_are_not_used(self):
        """The load goes to the server, not to somebody's proxy."""
        server = self.serve(json_answer("200 OK", b'{"data": [{"id": "tiny"}]}'))
        with mock.patch.dict(os.environ, {"http_proxy": "http://127.0.0.1:1"}):
            self.assertEqual(CompletionClient(server.url).find_model(), "tiny")

    def test_urls(self):
        """Only what can be connected to is accepted, and the message says how it should look."""
        self.assertEqual(check_url("http://h:1/base/"), "http://h:1/base")
        for bad in ("", "localhost:8080", "ftp://h", "http://", "http://h:x", "http://h:0"):
            with self.assertRaisesRegex(ValidationError, "give one like"):
                check_url(bad)


if __name__ == "__main__":
    unittest.main()
