"""How a request's handler says no: with a status and a message that shows nothing of us."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harden.error_answer import ErrorAnswer
from harden.redaction import redact
from harden.worker_protocol import GENERATION_LOST

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["GenerationLostError", "Refusal"]


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
        answer: what the client gets.
    """

    def __init__(self, status: int, message: str, **details: Any) -> None:
        """``details`` are the further fields of ErrorAnswer; the message is redacted here."""
        super().__init__(message)
        self.answer = ErrorAnswer(status, redact(message), **details)

    @classmethod
    def of_error(cls, error: Exception, private: Iterable[str] = ()) -> Refusal:
        """The answer to an error that generation ended with.

        A request that generation could not take (a prompt that does not tokenize, say) is the
        client's; a lost generation thread is ours.

        Args:
            error: what ended it.
            private: the request's own texts, which the answer must not quote.
        """
        if isinstance(error, GenerationLostError):
            lost = {"code": GENERATION_LOST, "retry_after_s": 1, "lost_batch": error.batch}
            return cls(503, str(error), **lost)
        if isinstance(error, RuntimeError):
            return cls(500, "The server could not generate an answer.", code="internal_error")
        reason = redact(str(error), private=private)
        return cls(400, f"The request could not be processed: {reason}", code="invalid_request")
