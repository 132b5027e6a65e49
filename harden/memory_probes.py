"""Memory of a process and of MLX, each figure read when it is asked for.

Resident size alone hides a leak: pages that were swapped out, or compressed by macOS, leave it.
So beside it stands what the process itself has put into memory: RssAnon + VmSwap on Linux
(proc(5)), the physical footprint on macOS. For MLX, whose peak figure can be far below the
footprint (ml-explore/mlx issue 3896), `footprint_bytes` gives the one figure to judge by.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harden.exceptions import HardenError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "MemoryProbeError",
    "MlxMemory",
    "ProcessMemory",
    "footprint_bytes",
    "memory_by_kind",
    "mlx_memory",
    "parse_anonymous_bytes",
    "phys_footprint_bytes",
    "process_memory",
]

_RUSAGE_INFO_V0 = 0
_RUSAGE_INFO_V0_SIZE = 96
_PHYS_FOOTPRINT_OFFSET = 72
_ANONYMOUS_LINE = re.compile(r"^(?:RssAnon|VmSwap):\s*(\d+) kB$", re.MULTILINE)


class MemoryProbeError(HardenError):
    """The memory of a process could not be read."""


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """Memory of one process.

    Attributes:
        rss_bytes: resident size.
        anonymous_bytes: what the process itself put there, swapped and compressed pages
            included; None where the system does not say.
    """

    rss_bytes: int
    anonymous_bytes: int | None


@dataclass(frozen=True, slots=True)
class MlxMemory:
    """MLX's own books of this process.

    Attributes:
        active_bytes: arrays in use.
        cache_bytes: buffers kept for reuse.
        peak_bytes: the most that was active at once.
    """

    active_bytes: int
    cache_bytes: int
    peak_bytes: int


def process_memory(pid: int | None = None) -> ProcessMemory:
    """Read the memory of a process.

    Args:
        pid: the process; None for this one.

    Raises:
        MemoryProbeError: psutil is missing or broken, the process is gone or not ours.
    """
    try:
        rss_bytes = importlib.import_module("psutil").Process(pid).memory_info().rss
    except Exception as error:
        whose = "this process" if pid is None else f"process {pid}"
        raise MemoryProbeError(
            f"the memory of {whose} is unavailable ({type(error).__name__} from psutil); "
            "check that the process lives, and `python -c 'import psutil'`"
        ) from error
    return ProcessMemory(rss_bytes, _anonymous_bytes(os.getpid() if pid is None else pid))


def mlx_memory() -> MlxMemory | None:
    """Read MLX's figures of this process; None where MLX is not loaded, and never loads it."""
    core = sys.modules.get("mlx.core")
    if core is None:
        return None
    return MlxMemory(core.get_active_memory(), core.get_cache_memory(), core.get_peak_memory())


def footprint_bytes(process: ProcessMemory, mlx: MlxMemory | None = None) -> int:
    """Return the one figure to judge a process by.

    It is the larger of what the system charges to the process and what MLX says it holds, since
    either can miss what the other sees.
    """
    charged = process.rss_bytes if process.anonymous_bytes is None else process.anonymous_bytes
    return charged if mlx is None else max(charged, mlx.active_bytes + mlx.cache_bytes)


def memory_by_kind(pid: int | None = None) -> dict[str, float]:
    """Return a process's memory in bytes by kind: rss, anonymous, mlx_active, mlx_cache, mlx_peak.

    Kinds that cannot be read are left out; MLX's are known of this process only.
    """
    kinds: dict[str, float] = {}
    try:
        process = process_memory(pid)
    except MemoryProbeError:
        pass
    else:
        kinds["rss"] = process.rss_bytes
        if process.anonymous_bytes is not None:
            kinds["anonymous"] = process.anonymous_bytes
    mlx = mlx_memory() if pid is None else None
    if mlx is not None:
        kinds |= {
            "mlx_active": mlx.active_bytes,
            "mlx_cache": mlx.cache_bytes,
            "mlx_peak": mlx.peak_bytes,
        }
    return kinds


def parse_anonymous_bytes(status: str) -> int | None:
    """Return RssAnon + VmSwap of a Linux `/proc/PID/status`; None if it has neither."""
    sizes_kib = [int(size) for size in _ANONYMOUS_LINE.findall(status)]
    return sum(sizes_kib) * 1024 if sizes_kib else None


def phys_footprint_bytes(
    pid: int, proc_pid_rusage: Callable[[int, int, ctypes.Array[ctypes.c_char]], int]
) -> int | None:
    """Return the physical footprint of a macOS process; None where the system refuses.

    Args:
        pid: the process.
        proc_pid_rusage: the function of that name in libproc, which fills a `rusage_info_v0`
            (sys/resource.h) and returns 0.
    """
    buffer = ctypes.create_string_buffer(_RUSAGE_INFO_V0_SIZE)
    if proc_pid_rusage(pid, _RUSAGE_INFO_V0, buffer) != 0:
        return None
    return ctypes.c_uint64.from_buffer(buffer, _PHYS_FOOTPRINT_OFFSET).value


def _anonymous_bytes(pid: int) -> int | None:
    if sys.platform == "darwin":
        return phys_footprint_bytes(pid, ctypes.CDLL(None).proc_pid_rusage)
    try:
        return parse_anonymous_bytes(Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    except (OSError, UnicodeError):
        return None
