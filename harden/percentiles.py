"""Exact percentiles over the newest samples, in bounded memory.

A percentile here is always one of the samples (the inverse of the empirical distribution
function; type 1 in Hyndman and Fan, "Sample Quantiles in Statistical Packages", 1996), so p99 of
ten requests is the slowest of them and not a figure that nobody waited for.
"""

from __future__ import annotations

from array import array
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["WINDOW_SIZE", "Percentiles", "SampleWindow", "inverted_cdf"]

WINDOW_SIZE = 10_000
_RUN_LENGTH = 500


@dataclass(frozen=True, slots=True)
class Percentiles:
    """What a window of samples says, in the unit of the samples; zeros when it is empty.

    Attributes:
        count: samples recorded since the start or the last reset, also those no longer kept.
        total: their sum.
        p50: half of the kept samples are at most this.
        p95: 95 of 100 kept samples are at most this.
        p99: 99 of 100 kept samples are at most this.
    """

    count: int = 0
    total: float = 0.0
    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0


def inverted_cdf(ordered: Sequence[float], percent: int) -> float:
    """Return the smallest sample that at least `percent` of 100 samples do not exceed.

    Args:
        ordered: the samples, ascending; at least one.
        percent: 0 to 100, whole, so that no rounding error can pick a neighbour.

    Returns:
        What ``numpy.percentile(ordered, percent, method="inverted_cdf")`` returns.
    """
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(rank, 1) - 1]


@dataclass(frozen=True, slots=True)
class _Run:
    """The same samples twice: as they came, and ascending."""

    arrived: array[float]
    ordered: array[float]


class SampleWindow:
    """The newest samples, cheap to add to and quick to ask for percentiles.

    Samples are kept in runs, each sorted once when it is full: asking then merges sorted runs,
    which takes a third of the time that sorting them afresh would. Not locked: the owner is.

    Args:
        size: how many samples are kept; a whole number of runs.
    """

    def __init__(self, size: int = WINDOW_SIZE) -> None:
        self._size = size
        self._run_length = min(_RUN_LENGTH, size)
        if size < 1 or size % self._run_length:
            raise ValueError(f"a window of {size} samples: give 1 to 500, or a multiple of 500")
        self._count = 0
        self._total = 0.0
        self._newest = array("d")
        self._runs: deque[_Run] = deque(maxlen=size // self._run_length)

    def record(self, value: float) -> None:
        """Add a sample; the oldest goes when the window is full."""
        self._count += 1
        self._total += value
        self._newest.append(value)
        if len(self._newest) == self._run_length:
            self._runs.append(_Run(self._newest, array("d", sorted(self._newest))))
            self._newest = array("d")

    def percentiles(self) -> Percentiles:
        """Return count, sum and percentiles as they are now."""
        ordered = sorted(self._kept())
        if not ordered:
            return Percentiles()
        p50, p95, p99 = (inverted_cdf(ordered, percent) for percent in (50, 95, 99))
        return Percentiles(self._count, self._total, p50, p95, p99)

    def _kept(self) -> array[float]:
        """Return the samples of the window, in the order that is quickest to sort."""
        kept = array("d")
        surplus = len(self._runs) * self._run_length + len(self._newest) - self._size
        for age, run in enumerate(self._runs):
            kept += run.arrived[surplus:] if age == 0 and surplus > 0 else run.ordered
        return kept + self._newest
