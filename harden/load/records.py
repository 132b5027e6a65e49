"""The facts of one request, as the client saw them."""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harden.load.measurement import Usage, inter_token_s

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Outcome", "RequestRecord"]


class Outcome(enum.Enum):
    """How a request ended, by who can tell."""

    SUCCEEDED = "succeeded"
    REFUSED = "refused"
    """The status line said so; both sides count the same status."""
    BROKEN = "broken"
    """The answer began with 200 and ended with an error, so its status is the server's secret."""
    LOST = "lost"
    """The transport failed: the server may have counted the request, in any way."""


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One completion request. Times are in seconds of one process's monotonic clock.

    Attributes:
        scenario: name of the scenario that it belongs to.
        stage: "warm-up" or "measured".
        streamed: whether events were asked for.
        intended_s: when it should have been sent: at the release of its round, or at the end
            of the answer before it.
        started_s: when the client turned to it, before connecting.
        sent_s: when the connection stood and the request was written to it.
        end_s: when the last byte had come, or the request was given up.
        outcome: how it ended.
        status: HTTP status; None if none came.
        first_token_s: arrival of the first content; None if unstreamed or without content.
        last_token_s: arrival of the last content.
        finish_reason: the server's word for the end of a success.
        prompt_tokens: from the answer's usage; None without one.
        completion_tokens: from the answer's usage; None without one.
        error: what went wrong; None for a success.
        size_bytes: size of the answer's body.
    """

    scenario: str
    stage: str
    streamed: bool
    intended_s: float
    started_s: float
    sent_s: float
    end_s: float
    outcome: Outcome
    status: int | None = None
    first_token_s: float | None = None
    last_token_s: float | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    error: str | None = None
    size_bytes: int = 0

    @property
    def succeeded(self) -> bool:
        """Whether a whole answer came."""
        return self.outcome is Outcome.SUCCEEDED

    @property
    def usage(self) -> Usage | None:
        """The token counts of the answer, if it had them."""
        if self.prompt_tokens is None or self.completion_tokens is None:
            return None
        return Usage(self.prompt_tokens, self.completion_tokens)

    @property
    def lag_ms(self) -> float:
        """How much later than intended the client turned to the request, in ms."""
        return (self.started_s - self.intended_s) * 1000

    @property
    def latency_ms(self) -> float:
        """End-to-end latency from the intended start, in ms, so that waiting counts."""
        return (self.end_s - self.intended_s) * 1000

    @property
    def ttft_ms(self) -> float | None:
        """Time to first token from the moment of sending, in ms."""
        return None if self.first_token_s is None else (self.first_token_s - self.sent_s) * 1000

    @property
    def inter_token_ms(self) -> float | None:
        """Mean time between tokens in ms."""
        interval_s = inter_token_s(self.first_token_s, self.last_token_s, self.usage)
        return None if interval_s is None else interval_s * 1000

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for a message between processes."""
        return {**dataclasses.asdict(self), "outcome": self.outcome.value}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RequestRecord:
        """Return the record that ``to_dict`` wrote."""
        return cls(**{**values, "outcome": Outcome(values["outcome"])})
