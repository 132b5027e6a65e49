"""How much memory this process has, had at most, and gained since the first record."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harden import memory_probes

if TYPE_CHECKING:
    from harden.metrics_types import MemoryStats

__all__ = ["UNAVAILABLE", "MemoryReading", "MemoryTracker"]

UNAVAILABLE = "unavailable"
_BYTES_PER_MB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class MemoryReading:
    """Resident memory of this process now, with what was recorded of it before.

    Attributes:
        current_bytes: read just now.
        peak_bytes: the most of the records and of now.
        first_bytes: the first record; now, where there is none.
    """

    current_bytes: int
    peak_bytes: int
    first_bytes: int

    @property
    def growth_percent(self) -> float:
        """Growth since the first record, in percent of it."""
        if not self.first_bytes:
            return 0.0
        return (self.current_bytes - self.first_bytes) / self.first_bytes * 100


class MemoryTracker:
    """Keeps the first and the largest record of this process's memory; thread-safe.

    Args:
        enabled: read the memory at all.
    """

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._lock = threading.Lock()
        self._first_bytes = 0
        self._peak_bytes = 0

    def record(self) -> None:
        """Read the memory and keep it; where it cannot be read nothing is kept."""
        current_bytes = self._read_bytes()
        if current_bytes is None:
            return
        with self._lock:
            self._first_bytes = self._first_bytes or current_bytes
            self._peak_bytes = max(self._peak_bytes, current_bytes)

    def read(self) -> MemoryReading | None:
        """Read the memory; None where it is not to be read, or cannot."""
        current_bytes = self._read_bytes()
        if current_bytes is None:
            return None
        with self._lock:
            first_bytes, peak_bytes = self._first_bytes, self._peak_bytes
        return MemoryReading(
            current_bytes, max(peak_bytes, current_bytes), first_bytes or current_bytes
        )

    def stats(self) -> MemoryStats:
        """Return the reading in megabytes, or the word "unavailable" and why."""
        reading = self.read()
        if reading is None:
            why = "psutil could not read it" if self._enabled else "memory tracking is off"
            return {
                "enabled": self._enabled,
                "current_mb": UNAVAILABLE,
                "peak_mb": UNAVAILABLE,
                "growth_percent": UNAVAILABLE,
                "message": f"memory is unavailable: {why}",
            }
        return {
            "enabled": True,
            "current_mb": reading.current_bytes / _BYTES_PER_MB,
            "peak_mb": reading.peak_bytes / _BYTES_PER_MB,
            "growth_percent": reading.growth_percent,
        }

    def reset(self) -> None:
        """Forget the records."""
        with self._lock:
            self._first_bytes = self._peak_bytes = 0

    def _read_bytes(self) -> int | None:
        if not self._enabled:
            return None
        try:
            return memory_probes.process_memory().rss_bytes
        except memory_probes.MemoryProbeError:
            return None
