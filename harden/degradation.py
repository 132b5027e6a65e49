"""When to stop using a cache that keeps failing, and when to trust it again."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Literal

from harden.exceptions import ValidationError

__all__ = ["Degradation", "DegradationState", "Mode"]

Mode = Literal["normal", "degraded"]


@dataclass(frozen=True)
class DegradationState:
    """Where the state machine stands.

    Attributes:
        mode: "normal", or "degraded" while the cache is not to be used.
        errors_in_a_row: cache errors since the last success.
        successes_in_a_row: successes since the last cache error.
    """

    mode: Mode = "normal"
    errors_in_a_row: int = 0
    successes_in_a_row: int = 0


class Degradation:
    """Counts errors and successes in a row; thread-safe.

    Args:
        enabled: whether enough errors lead to "degraded" at all.
        errors_to_degrade: that many in a row switch the cache off.
        successes_to_recover: that many in a row switch it on again.

    Raises:
        ValidationError: a threshold below 1.
    """

    def __init__(
        self, *, enabled: bool = True, errors_to_degrade: int = 5, successes_to_recover: int = 10
    ) -> None:
        """Begin in "normal"."""
        for name, value in (
            ("errors_to_degrade", errors_to_degrade),
            ("successes_to_recover", successes_to_recover),
        ):
            if value < 1:
                raise ValidationError(
                    f"{name} is {value}, but must be at least 1",
                    setting=name,
                    value=value,
                    fix="Give a number from 1 on.",
                )
        self._enabled = enabled
        self._errors_to_degrade = errors_to_degrade
        self._successes_to_recover = successes_to_recover
        self._lock = threading.Lock()
        self._state = DegradationState()

    @property
    def state(self) -> DegradationState:
        """The state at this moment."""
        return self._state

    def record_error(self) -> bool:
        """Count an error; True if it switched the mode to "degraded"."""
        with self._lock:
            before = self._state
            errors = before.errors_in_a_row + 1
            degraded = before.mode == "degraded" or (
                self._enabled and errors >= self._errors_to_degrade
            )
            self._state = DegradationState("degraded" if degraded else "normal", errors, 0)
            return self._state.mode != before.mode

    def record_success(self) -> bool:
        """Count a success; True if it switched the mode back to "normal"."""
        with self._lock:
            before = self._state
            successes = before.successes_in_a_row + 1
            recovered = before.mode == "normal" or successes >= self._successes_to_recover
            self._state = DegradationState("normal" if recovered else "degraded", 0, successes)
            return self._state.mode != before.mode
