"""The memory limit of the control group that a Linux process lives in, both versions (cgroups(7)).

In a container this limit is the real one: the machine's own memory says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CgroupPaths", "cgroup_limit_bytes", "parse_cgroup_paths", "parse_limit_bytes"]

# Version 1 writes "no limit" as the largest whole number of pages below 2^63.
_NO_LIMIT_FROM_BYTES = 1 << 60
_MOST_DIGITS = 20


@dataclass(frozen=True, slots=True)
class CgroupPaths:
    """Where a process is in the hierarchies that can limit memory.

    Attributes:
        unified: path in the version 2 hierarchy, None if it is in none.
        memory: path in the version 1 hierarchy of the memory controller, None if it is in none.
    """

    unified: str | None = None
    memory: str | None = None


def cgroup_limit_bytes(root: Path = Path("/")) -> int | None:
    """Return the lowest memory limit of this process's group and the groups around it.

    Args:
        root: the root of the file system, for tests.

    Returns:
        The limit in bytes; None where there is none, as on macOS.
    """
    try:
        paths = parse_cgroup_paths((root / "proc/self/cgroup").read_text(encoding="utf-8"))
    except (OSError, UnicodeError):
        return None
    texts = (_read(file) for file in _limit_files(root / "sys/fs/cgroup", paths))
    limits = [limit for limit in map(parse_limit_bytes, texts) if limit is not None]
    return min(limits, default=None)


def parse_cgroup_paths(cgroup: str) -> CgroupPaths:
    """Return the paths that a `/proc/PID/cgroup` names, lines of `id:controllers:path`."""
    unified = memory = None
    for line in cgroup.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            unified = path
        elif "memory" in controllers.split(","):
            memory = path
    return CgroupPaths(unified or None, memory or None)


def parse_limit_bytes(text: str) -> int | None:
    """Return the limit that a `memory.max` or `memory.limit_in_bytes` holds; None for no limit."""
    word = text.strip()
    if not (word.isascii() and word.isdigit() and len(word) <= _MOST_DIGITS):
        return None
    limit_bytes = int(word)
    return limit_bytes if limit_bytes < _NO_LIMIT_FROM_BYTES else None


def _limit_files(mount: Path, paths: CgroupPaths) -> Iterator[Path]:
    """Yield the files that may limit the process: its group's and those of all around it."""
    for hierarchy, path, name in (
        (mount, paths.unified, "memory.max"),
        (mount / "memory", paths.memory, "memory.limit_in_bytes"),
    ):
        if path is not None:
            group = PurePosixPath(path.lstrip("/"))
            for ancestor in (group, *group.parents):
                yield hierarchy / ancestor / name


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii")
    except (OSError, UnicodeError):
        return ""
