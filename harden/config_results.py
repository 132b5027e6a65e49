"""What the calls of :class:`harden.config_validator.ConfigValidator` answer, as plain dicts."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

__all__ = [
    "CompleteResult",
    "DependenciesResult",
    "DependencyResult",
    "FreePort",
    "ModelPathResult",
    "PortResult",
    "PortUse",
    "VariableResult",
    "VariableType",
]

VariableType = Literal["str", "int", "bool"]


class PortResult(TypedDict, total=False):
    """What is known of a valid port."""

    valid: bool
    port: int
    warning: str


class VariableResult(TypedDict, total=False):
    """A variable's value, or its default where it is not set."""

    valid: bool
    value: Any
    default: Any


class ModelPathResult(TypedDict):
    """What a model folder holds; ``valid`` when a model can be loaded from it."""

    valid: bool
    exists: bool
    has_config: bool
    has_tokenizer: bool
    has_weights: bool
    is_symlink: bool


class PortUse(TypedDict, total=False):
    """Whether a port can be listened on."""

    available: bool
    in_use: bool


class FreePort(TypedDict, total=False):
    """A port that nobody listens on."""

    found: bool
    port: int


class DependencyResult(TypedDict):
    """One package."""

    installed: bool
    version: str | None
    version_ok: bool


class DependenciesResult(TypedDict):
    """Several packages; ``missing`` holds the names of those that are not there."""

    all_installed: bool
    missing: list[str]


class CompleteResult(TypedDict):
    """Everything about the environment; ``errors`` holds one sentence for each problem."""

    valid: bool
    errors: list[str]
    environment_vars: dict[str, Any]
    port: int | None
    dependencies: DependenciesResult
