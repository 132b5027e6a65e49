"""Gives memory back and measures what that brought."""

from __future__ import annotations

import gc
import importlib
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harden.cache_entries import clear_entries
from harden.memory_cgroup import cgroup_limit_bytes
from harden.memory_probes import MemoryProbeError, footprint_bytes, mlx_memory, process_memory

if TYPE_CHECKING:
    from collections.abc import MutableMapping

__all__ = [
    "BYTES_PER_MB",
    "MemoryProbe",
    "MemoryRelief",
    "Relief",
    "as_mb",
    "probe_footprint",
]

BYTES_PER_MB = 1024 * 1024
MemoryProbe = Callable[[], int]

_logger = logging.getLogger(__name__)


def probe_footprint() -> int:
    """Return what this process occupies, in bytes, MLX's arrays included.

    Raises:
        MemoryProbeError: the system does not say.
    """
    return footprint_bytes(process_memory(), mlx_memory())


def as_mb(size_bytes: int | None) -> float | None:
    """Convert bytes to MiB; None stays None."""
    return None if size_bytes is None else size_bytes / BYTES_PER_MB


@dataclass(frozen=True)
class Relief:
    """What giving memory back brought.

    Attributes:
        before_bytes: in use before; None where that cannot be measured.
        after_bytes: in use afterwards; None where that cannot be measured.
        complete: every cache could be cleared.
    """

    before_bytes: int | None
    after_bytes: int | None
    complete: bool

    @property
    def freed_bytes(self) -> int:
        """The measured difference; 0 where memory grew meanwhile or cannot be measured."""
        if self.before_bytes is None or self.after_bytes is None:
            return 0
        return max(0, self.before_bytes - self.after_bytes)


class MemoryRelief:
    """Clears a cache, Python's garbage and MLX's buffers.

    Args:
        cache: what to clear.
        probe: returns the bytes in use.
    """

    def __init__(
        self, cache: MutableMapping[Any, Any], probe: MemoryProbe = probe_footprint
    ) -> None:
        """Bind the parts; nothing is done yet."""
        self._cache = cache
        self._probe = probe

    def release(self) -> Relief:
        """Clear everything that can be had again."""
        before = self.in_use_bytes()
        mlx = sys.modules.get("mlx.core")
        steps: list[Callable[[], Any]] = [lambda: clear_entries(self._cache), gc.collect]
        steps += [mlx.clear_cache] if mlx is not None else []
        done = [_succeeds(step) for step in steps]
        return Relief(before, self.in_use_bytes(), all(done))

    def in_use_bytes(self) -> int | None:
        """Return what the probe says; None if it cannot."""
        try:
            return self._probe()
        except MemoryProbeError:
            return None

    def used_percent(self) -> float:
        """Return how full memory is: the machine's, or the container's if that is fuller.

        Raises:
            MemoryProbeError: psutil is missing or broken.
        """
        try:
            machine = float(importlib.import_module("psutil").virtual_memory().percent)
        except Exception as error:
            raise MemoryProbeError(
                f"how full memory is, is unavailable ({type(error).__name__} from psutil); "
                "check `python -c 'import psutil'`"
            ) from error
        limit, used = cgroup_limit_bytes(), self.in_use_bytes()
        container = 100 * used / limit if limit and used is not None else 0.0
        return max(machine, container)


def _succeeds(step: Callable[[], Any]) -> bool:
    try:
        step()
    except Exception as error:  # noqa: BLE001 - a cache of the user's, and memory is short
        _logger.warning("a cache could not be cleared: %s", type(error).__name__)
        return False
    return True
