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
        below_version: the first that is not known to work; None where none is.
        reason: what goes wrong with other versions.
    """

    module: str
    distribution: str
    extra: str = ""
    min_version: str | None = None
    below_version: str | None = None
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
        reason="an out-of-memory abort of Metal ends the whole process",
    ),
    Requirement(
        "mlx_lm",
        "mlx-lm",
        "server",
        "0.32.2",
        "0.33",
        reason="harden replaces parts of its server, and knows these versions only",
    ),
)


def find_unmet(requirement: Requirement) -> str | None:
    """Say what is wrong with a package, without importing it; None if it will do."""
    version = installed_version(requirement.module, requirement.distribution)
    if version is None:
        return f"{requirement.distribution} is not installed"
    return None if _fits(version, requirement) else _misfit(version, requirement)


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


def _fits(version: str, requirement: Requirement) -> bool:
    lowest, limit = requirement.min_version, requirement.below_version
    return version == "unknown" or not (
        (lowest and is_older(version, lowest)) or (limit and not is_older(version, limit))
    )


def _misfit(version: str, requirement: Requirement) -> str:
    needed = f"{requirement.min_version} or newer"
    if requirement.below_version:
        needed += f", below {requirement.below_version}"
    name = f"{requirement.distribution} {version}"
    return f"{name} will not do, {needed} is needed: {requirement.reason}"


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
