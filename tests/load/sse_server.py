"""A small completion server whose times are known in advance, to measure the measuring with.

Every answer follows an absolute schedule from the moment its request was read: comments during
the prefill, a chunk with only a role at half of it, the first token at ``--first-ms``, one more
every ``--gap-ms``, then finish reason, usage and ``[DONE]``. ``/v1/metrics`` is honest, unless
an option says otherwise. Prints where it listens, as harden serve does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter

import psutil
from aiohttp import web

PREFILL_COMMENTS = 4


class Server:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.start_s = time.monotonic()
        self.received = 0
        self.in_flight = 0
        self.succeeded: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.prompt_tokens = 0

    async def complete(self, request: web.Request) -> web.StreamResponse:
        arrival_s = asyncio.get_running_loop().time()
        self.received += 1
        self.in_flight += 1
        try:
            if self.options.fail_every and self.received % self.options.fail_every == 0:
                self.failed["500"] += 1
                return web.json_response({"error": {"message": "every so often"}}, status=500)
            body = await request.json()
            prompt_tokens = len(body["messages"][0]["content"].split())
            answer = await self._answer(request, body, prompt_tokens, arrival_s)
            self.prompt_tokens += prompt_tokens
            self.succeeded["length"] += 1
            return answer
        finally:
            self.in_flight -= 1

    async def _answer(self, request, body, prompt_tokens, arrival_s) -> web.StreamResponse:
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": self.options.tokens}
        first_s = arrival_s + self.options.first_ms / 1000
        token_times_s = [
            first_s + n * self.options.gap_ms / 1000 for n in range(self.options.tokens)
        ]
        if not body.get("stream"):
            await sleep_until(token_times_s[-1])
            choice = {"message": {"content": "word " * self.options.tokens}}
            return web.json_response(
                {"choices": [{**choice, "finish_reason": "length"}], "usage": usage}
            )
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for number in range(1, PREFILL_COMMENTS + 1):
            step_s = (first_s - arrival_s) / (PREFILL_COMMENTS + 1)
            await sleep_until(arrival_s + number * step_s)
            await response.write(f": keepalive {number}/{PREFILL_COMMENTS}\n\n".encode())
            if number == PREFILL_COMMENTS // 2:
                await response.write(event({"choices": [{"delta": {"role": "assistant"}}]}))
        for time_s in token_times_s:
            await sleep_until(time_s)
            await response.write(event({"choices": [{"delta": {"content": "word "}}]}))
        await response.write(event({"choices": [{"delta": {}, "finish_reason": "length"}]}))
        await response.write(event({"choices": [], "usage": usage}))
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    async def metrics(self, request: web.Request) -> web.Response:
        limit = self.options.metrics_end_after
        if limit and self.received > limit:
            return web.Response(status=503)
        successes, failures = sum(self.succeeded.values()), sum(self.failed.values())
        document = {
            "uptime_seconds": time.monotonic() - self.start_s,
            "requests": {
                "received": self.received,
                "finished": successes + failures,
                "in_flight": self.in_flight,
                "succeeded": self.succeeded,
                "failed": self.failed,
            },
            "tokens": {
                "prompt_tokens": self.prompt_tokens,
                "generation_tokens": successes * self.options.tokens,
                "requests_with_usage": successes,
            },
            "memory": {
                "gateway": {"rss_mb": psutil.Process().memory_info().rss / 2**20},
                "worker": None,
            },
        }
        return web.json_response(document)

    async def ready(self, request: web.Request) -> web.Response:
        return web.Response()

    async def models(self, request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "clockwork"}]})


def event(message: dict) -> bytes:
    return f"data: {json.dumps(message)}\n\n".encode()


async def sleep_until(time_s: float) -> None:
    await asyncio.sleep(max(0.0, time_s - asyncio.get_running_loop().time()))


async def serve(options: argparse.Namespace) -> None:
    server = Server(options)
    application = web.Application()
    application.router.add_post("/v1/chat/completions", server.complete)
    application.router.add_get("/ready", server.ready)
    application.router.add_get("/v1/models", server.models)
    if not options.no_metrics:
        application.router.add_get("/v1/metrics", server.metrics)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(f"Listening on http://127.0.0.1:{runner.addresses[0][1]}", flush=True)  # noqa: T201
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first-ms", type=float, default=100.0)
    parser.add_argument("--gap-ms", type=float, default=20.0)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--fail-every", type=int, default=0)
    parser.add_argument("--metrics-end-after", type=int, default=0)
    parser.add_argument("--no-metrics", action="store_true")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
