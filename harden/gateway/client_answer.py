"""The client's side of one request: headers as late as possible, then a body or a stream."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from aiohttp import web

from harden.sse import format_comment, format_event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from harden.gateway.refusal import Refusal

__all__ = ["ClientAnswer", "ClientLeftError"]


class ClientLeftError(Exception):
    """The client closed its connection while it was being answered."""


class ClientAnswer:
    """Writes one answer.

    Attributes:
        response: what aiohttp is given in the end.
    """

    def __init__(self, request: web.Request, headers: Mapping[str, str]) -> None:
        """``headers`` go with every answer (request id, CORS)."""
        self._request = request
        self._headers = dict(headers)
        self._stream: web.StreamResponse | None = None
        self._last_write = time.monotonic()
        self._begin_lock = asyncio.Lock()
        self.response: web.StreamResponse = web.Response(status=500)

    async def events(self, data: bytes) -> None:
        """Send events, which begin the answer."""
        await self._write(await self._begin(), data)

    async def comments(self, data: bytes) -> None:
        """Send upstream's comments; before the answer has begun they would fix its status."""
        if self._stream is not None:
            await self._write(self._stream, data)

    async def end(self) -> None:
        """End the stream."""
        stream = await self._begin()
        try:
            await stream.write_eof()
        except ConnectionError:
            raise ClientLeftError from None

    def body(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Answer with JSON at once; nothing may have been sent before."""
        self.response = web.Response(
            status=status,
            body=body,
            headers={**self._headers, **(headers or {})},
            content_type="application/json",
        )

    async def refuse(self, refusal: Refusal) -> None:
        """Answer with an error: as JSON, or as the stream's last event if it has begun."""
        if self._stream is None:
            answer = refusal.answer
            self.body(answer.status, answer.body(), answer.headers)
            return
        await self._write(self._stream, format_event(refusal.answer.json(), "error"))
        self._stream.force_close()
        await self.end()

    @contextlib.asynccontextmanager
    async def kept_alive(self, interval_s: float) -> AsyncIterator[None]:
        """Send a comment whenever nothing was sent for ``interval_s``."""
        ticker = asyncio.create_task(self._tick(interval_s))
        try:
            yield
        finally:
            ticker.cancel()
            await asyncio.gather(ticker, return_exceptions=True)

    async def _tick(self, interval_s: float) -> None:
        while True:
            silence_s = time.monotonic() - self._last_write
            if silence_s >= interval_s:
                await self.events(format_comment("keep-alive"))
            else:
                await asyncio.sleep(interval_s - silence_s)

    async def _begin(self) -> web.StreamResponse:
        async with self._begin_lock:  # the ticker may be here too
            if self._stream is None:
                stream = web.StreamResponse(
                    headers={
                        **self._headers,
                        "Content-Type": "text/event-stream",
                        "Cache-Control": "no-cache",
                    }
                )
                await stream.prepare(self._request)
                self._stream = self.response = stream
            return self._stream

    async def _write(self, stream: web.StreamResponse, data: bytes) -> None:
        self._last_write = time.monotonic()
        try:
            await stream.write(data)
        except ConnectionError:
            raise ClientLeftError from None
