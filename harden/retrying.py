"""Repeats calls that failed on their way through a network."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import tenacity

from harden.exceptions import NetworkError, ValidationError

if TYPE_CHECKING:
    from tenacity import RetryCallState

__all__ = ["RetryPolicy", "is_transport_error"]

Result = TypeVar("Result")
OnRetry = Callable[[BaseException, float, int], None]

_MOST_RETRIES = 32
_JITTER = 0.1

# Told by name, so that no HTTP client has to be installed or imported.
_TRANSPORT_ERRORS = frozenset(
    {
        "aiohttp.client_exceptions.ClientConnectionError",
        "aiohttp.client_exceptions.ClientPayloadError",
        "http.client.BadStatusLine",
        "http.client.IncompleteRead",
        "httpx.TransportError",
        "openai.APIConnectionError",
        "requests.exceptions.ChunkedEncodingError",
        "requests.exceptions.ConnectionError",
        "requests.exceptions.Timeout",
        "socket.gaierror",
        "urllib.error.URLError",
        "urllib3.exceptions.TimeoutError",
        "urllib3.exceptions.NewConnectionError",
        "urllib3.exceptions.ProtocolError",
    }
)
_ANSWERS = frozenset({"urllib.error.HTTPError"})


def is_transport_error(error: BaseException) -> bool:
    """Tell whether a call failed on the way: a connection refused, cut, or too slow.

    An HTTP status is an answer, and no transport error.
    """
    names = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__}
    if names & _ANSWERS:
        return False
    known = isinstance(error, NetworkError | ConnectionError | TimeoutError)
    return known or bool(names & _TRANSPORT_ERRORS)


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential back-off with jitter.

    Attributes:
        max_retries: how often a failed call is repeated at most, from 0 to 32.
        backoff_ms: the first delay; each further one doubles.

    Raises:
        ValidationError: a value outside its range.
    """

    max_retries: int = 3
    backoff_ms: float = 100.0

    def __post_init__(self) -> None:
        """Refuse what cannot be waited for."""
        if not 0 <= self.max_retries <= _MOST_RETRIES:
            raise _out_of_range("max_retries", self.max_retries, f"from 0 to {_MOST_RETRIES}")
        if not 0 <= self.backoff_ms < math.inf:
            raise _out_of_range(
                "retry_backoff_ms", self.backoff_ms, "a finite number of at least 0"
            )

    def delay_s(self, number: int) -> float:
        """Return how long to wait before a repetition, the first being number 0.

        The jitter spreads clients that failed together. It is at most a tenth, so that each delay
        is longer than the one before.
        """
        spread = 1 + _JITTER * random.random()  # noqa: S311 - no secret
        return self.backoff_ms / 1000 * 2.0**number * spread

    def call(
        self,
        function: Callable[[], Result],
        *,
        on_retry: OnRetry | None = None,
        delays_before: int = 0,
    ) -> Result:
        """Call until it succeeds, fails otherwise than in transport, or the retries are used up.

        Args:
            function: what to call.
            on_retry: told the error, the delay in seconds and the calls so far before each wait.
            delays_before: how many delays the caller has waited already; the next is longer.

        Raises:
            NetworkError: every call failed in transport; its cause is the last error.
            Exception: whatever else the function raises, at once.
        """

        def wait(state: RetryCallState) -> float:
            return self.delay_s(state.attempt_number - 1 + delays_before)

        def tell(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            if on_retry and error and state.next_action:
                on_retry(error, state.next_action.sleep, state.attempt_number)

        retrying = tenacity.Retrying(
            sleep=lambda seconds: time.sleep(seconds),  # noqa: PLW0108 - found anew at each call
            stop=tenacity.stop_after_attempt(self.max_retries + 1),
            wait=wait,
            retry=tenacity.retry_if_exception(is_transport_error),
            before_sleep=tell,
        )
        try:
            return retrying(function)
        except tenacity.RetryError as error:
            raise _gave_up(error) from error.last_attempt.exception()


def _gave_up(error: tenacity.RetryError) -> NetworkError:
    attempts = error.last_attempt.attempt_number
    cause = error.last_attempt.exception()
    return NetworkError(
        f"gave up after {attempts} attempt{'s' * (attempts > 1)}, the last one failed with "
        f"{type(cause).__name__}; check that the server runs and can be reached",
        attempts=attempts,
    )


def _out_of_range(name: str, value: float, wanted: str) -> ValidationError:
    return ValidationError(
        f"{name} is {value}, but must be {wanted}",
        setting=name,
        value=value,
        fix=f"Give {wanted}.",
    )
