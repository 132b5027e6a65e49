"""Which packages are there, in which version, and whether that version will do."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import re
from dataclasses import dataclass
from typing import Any

from harden.exceptions import DependencyError

__all__ = [
    "REQUIREMENTS",
    "Requirement",
    "find_unmet",
    "import_version",
    "installed_version",
    "is_older",
]

_VERSION = re.compile(r"v?(\d{1,9}(?:\.\d{1,9}){0,9})(.*)", re.ASCII | re.DOTALL)
_BEFORE_RELEASE = re.compile(
    r"[-._]?(?:a|b|c|rc|alpha|beta|pre|preview|dev)(?![a-z])", re.IGNORECASE
)


@dataclass(frozen=True)
class Requirement:
    """A package that a part of harden needs.

    Attributes:
        module: its import name.
        distribution: the name that pip installs.
        extra: the extra of mlx-harden that brings it; empty for the core.
        min_version: the lowest that works; None where any does.
        reason: what goes wrong below it.
    """

    module: str
    distribution: str
    extra: str = ""
    min_version: str | None = None
    reason: str = ""

    @property
    def command(self) -> str:
        """What to type to get it."""
        package = f"mlx-harden[{self.extra}]" if self.extra else "mlx-harden"
        return f"pip install --upgrade '{package}'"


REQUIREMENTS = (
    Requirement("psutil", "psutil"),
    Requirement("prometheus_client", "prometheus-client"),
    Requirement("tenacity", "tenacity"),
    Requirement("aiohttp", "aiohttp", "server"),
    Requirement(
        "mlx",
        "mlx",
        "server",
        "0.32.1",
        # ml-explore/mlx issues 3523 and 3742
        "an out-of-memory abort of Metal ends the whole process",
    ),
    Requirement("mlx_lm", "mlx-lm", "server"),
)


def find_unmet(requirement: Requirement) -> str | None:
    """Say what is wrong with a package, without importing it; None if it will do."""
    version = installed_version(requirement.module, requirement.distribution)
    if version is None:
        return f"{requirement.distribution} is not installed"
    if requirement.min_version and is_older(version, requirement.min_version):
        reason = f": {requirement.reason}" if requirement.reason else ""
        return f"{requirement.distribution} {version} is below {requirement.min_version}{reason}"
    return None


def installed_version(module: str, distribution: str) -> str | None:
    """Return the version of an installed package, "unknown" where it says none, None if absent.

    Nothing is imported, so that a process that must stay free of MLX does.
    """
    try:
        if importlib.util.find_spec(module) is None:
            return None
    except (ImportError, ValueError):
        return None
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def import_version(module: str) -> str | None:
    """Import a module and return its version, "unknown" where it has none.

    Returns:
        None if the module is missing or cannot be imported.
    """
    if not all(part.isidentifier() for part in module.split(".")):
        return None
    try:
        imported = importlib.import_module(module)
    except Exception:  # noqa: BLE001 - a broken module may raise anything while it is imported
        return None
    return _stated_version(imported, module)


def is_older(version: str, than: str) -> bool:
    """Compare two versions by their release numbers; a pre-release is older than its release.

    Raises:
        DependencyError: one of them does not begin with a number.
    """
    return _sort_key(version) < _sort_key(than)


def _stated_version(imported: Any, module: str) -> str:
    version = getattr(imported, "__version__", None)
    if isinstance(version, str):
        return version
    try:
        return importlib.metadata.version(module.partition(".")[0])
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _sort_key(version: str) -> tuple[list[int], bool]:
    match = _VERSION.match(version.strip())
    if match is None:
        raise DependencyError(
            f"{version[:40]!r} is not a version; write numbers such as 0.32.1", installed=version
        )
    numbers = [int(number) for number in match[1].split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return numbers, not _BEFORE_RELEASE.match(match[2])
