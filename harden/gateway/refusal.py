"""The gateway's errors as clients see them: OpenAI's error object with the right status."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["Refusal", "error_object"]

_SERVER_ERRORS = 500


class Refusal(Exception):  # noqa: N818 - it is an answer
    """Ends a request with an HTTP error.

    Attributes:
        status: HTTP status.
        message: what the client reads: no path, no key, no Python text.
        code: a word for programs.
        param: the field of the request that was wrong, if one was.
        retry_after_s: when to try again, if that makes sense.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        """Headers that go with the status."""
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        if self.status == 401:  # noqa: PLR2004 - HTTP's own number
            headers["WWW-Authenticate"] = "Bearer"
        return headers

    def body(self) -> bytes:
        """OpenAI's error object as JSON."""
        return json.dumps(error_object(self.status, self.message, self.code, self.param)).encode()


def error_object(status: int, message: str, code: str | None, param: str | None) -> dict[str, Any]:
    """Build ``{"error": {"message", "type", "param", "code"}}``."""
    kinds = {401: "authentication_error", 429: "rate_limit_error"}
    kind = kinds.get(
        status, "server_error" if status >= _SERVER_ERRORS else "invalid_request_error"
    )
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
