"""An HTTP error as clients see it: OpenAI's error object, with the status and headers it needs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus

__all__ = ["ErrorAnswer"]

_TYPES = {401: "authentication_error", 429: "rate_limit_error"}


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """One error.

    Attributes:
        status: HTTP status.
        message: what the client reads: no path, no key, no Python text.
        code: a word for programs.
        param: the field of the request that was wrong, if one was.
        retry_after_s: when to try again, if that makes sense.
        lost_batch: only between our worker and its gateway: the same number for all requests
            whose generation was lost together.
    """

    status: int
    message: str
    code: str
    param: str | None = None
    retry_after_s: int | None = None
    lost_batch: int | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Headers that go with the status."""
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        if self.status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        return headers

    def json(self) -> str:
        """``{"error": {"message", "type", "param", "code"}}``."""
        ours = self.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        error: dict[str, str | int | None] = {
            "message": self.message,
            "type": "server_error" if ours else _TYPES.get(self.status, "invalid_request_error"),
            "param": self.param,
            "code": self.code,
        }
        if self.lost_batch is not None:
            error["lost_batch"] = self.lost_batch
        return json.dumps({"error": error})

    def body(self) -> bytes:
        """The same as bytes."""
        return self.json().encode()
