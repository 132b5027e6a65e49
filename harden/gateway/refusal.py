"""How the gateway says no."""

from __future__ import annotations

from typing import Any

from harden.error_answer import ErrorAnswer

__all__ = ["Refusal"]


class Refusal(Exception):  # noqa: N818 - it is an answer
    """Ends a request with an HTTP error.

    Attributes:
        answer: what the client gets.
    """

    def __init__(self, status: int, message: str, **details: Any) -> None:
        """``details`` are the further fields of ErrorAnswer: ``code``, ``param`` and so on."""
        super().__init__(message)
        self.answer = ErrorAnswer(status, message, **details)
