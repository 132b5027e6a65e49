"""How a request's handler says no: with a status and a message that shows nothing of us."""

from __future__ import annotations

import json
from typing import Any

from harden.redaction import redact

__all__ = ["GenerationLostError", "Refusal"]

_SERVER_ERRORS = 500


class GenerationLostError(RuntimeError):
    """The generation thread failed while it held this request, whose state is gone.

    Attributes:
        batch: the same number for all requests that were lost together.
    """

    def __init__(self, batch: int) -> None:
        """Requests that the thread held at its ``batch``-th failure get this error."""
        super().__init__("The generation of this answer was lost; please send the request again.")
        self.batch = batch


class Refusal(BaseException):
    """Ends a request with an HTTP error.

    It is no ``Exception``: upstream turns every exception of ``generate`` into a 404 that quotes
    it, and this must reach our handler instead.

    Attributes:
        status: HTTP status.
        message: what the client reads; redacted.
        code: a word for programs, as in OpenAI's error objects.
        param: the request's field that was wrong, if one was.
        lost_batch: of a lost generation, what a gateway in front needs to see who fell together.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        lost_batch: int | None = None,
    ) -> None:
        """``message`` is redacted here."""
        super().__init__(message)
        self.status = status
        self.message = redact(message)
        self.code = code
        self.param = param
        self.lost_batch = lost_batch

    @classmethod
    def of_error(cls, error: Exception) -> Refusal:
        """The answer to an error that generation ended with.

        A request that generation could not take (a prompt that does not tokenize, say) is the
        client's; a lost generation thread is ours.
        """
        if isinstance(error, GenerationLostError):
            return cls(503, str(error), code="generation_lost", lost_batch=error.batch)
        if isinstance(error, RuntimeError):
            return cls(500, "The server could not generate an answer.", code="internal_error")
        return cls(400, f"The request could not be processed: {error}", code="invalid_request")

    def body(self) -> bytes:
        """OpenAI's error object as JSON."""
        kind = "invalid_request_error" if self.status < _SERVER_ERRORS else "server_error"
        error: dict[str, Any] = {
            "message": self.message,
            "type": kind,
            "param": self.param,
            "code": self.code,
        }
        if self.lost_batch is not None:
            error["lost_batch"] = self.lost_batch
        return json.dumps({"error": error}).encode()
