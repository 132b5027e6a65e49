"""What we rely on in mlx_lm.server, by name, so that a new upstream fails loudly and at once.

harden.mlx subclasses upstream's classes and replaces a handful of their methods. Each name that
a subclass overrides, calls or reads is listed here; ``check`` compares the list with the module
at hand before anything is replaced.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from harden.exceptions import UnsupportedUpstreamError

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["CONTRACT", "SUPPORTED", "check", "missing_names"]

SUPPORTED = ((0, 32, 2), (0, 33, 0))
"""Lowest mlx_lm version that was read and tested, and the first one that was not."""

CONTRACT: dict[str, tuple[str, ...]] = {
    "": ("main", "run", "_run_http_server", "get_system_fingerprint", "ModelProvider"),
    "APIHandler": (
        "do_GET",
        "do_POST",
        "do_OPTIONS",
        "generate_response",
        "completion_usage_response",
        "handle_completion",
        "handle_models_request",
        "validate_model_parameters",
        "_set_cors_headers",
    ),
    "ResponseGenerator": (
        "_generate",
        "_is_batchable",
        "_run_generate",
        "cli_args",
        "generate",
        "generation_available",
        "is_healthy",
        "join",
        "stop_and_join",
    ),
    "LRUPromptCache": ("fetch_nearest_cache", "insert_cache", "nbytes", "trim_to", "__len__"),
    "GenerationContext": ("stop",),
    "ModelProvider": ("load", "load_default", "reset"),
}
"""Attributes by class; the empty name stands for the module itself."""

_PARAMETERS: dict[str, tuple[str, ...]] = {
    "run": ("host", "port", "model_provider"),
    "_run_http_server": ("host", "port", "response_generator", "server_class", "handler_class"),
    "APIHandler.generate_response": ("self", "text", "finish_reason"),
    "APIHandler.handle_completion": ("self", "request", "stop_words"),
    "ResponseGenerator.generate": ("self", "request", "generation_args", "progress_callback"),
    "LRUPromptCache.fetch_nearest_cache": ("self", "model", "tokens"),
    "LRUPromptCache.insert_cache": ("self", "model", "tokens", "prompt_cache"),
}
"""First parameters, in order, of the calls that we make or override."""


def missing_names(server_module: ModuleType) -> tuple[str, ...]:
    """Names of the contract that the module does not have, or has with other parameters."""
    missing = [
        f"{owner}.{name}".lstrip(".")
        for owner, names in CONTRACT.items()
        for name in names
        if not hasattr(getattr(server_module, owner, None) if owner else server_module, name)
    ]
    return tuple(missing + [name for name in _PARAMETERS if not _same_call(server_module, name)])


def _same_call(server_module: ModuleType, dotted: str) -> bool:
    target: object = server_module
    for part in dotted.split("."):
        target = getattr(target, part, None)
    if not callable(target):
        return False
    found = tuple(inspect.signature(target).parameters)
    expected = _PARAMETERS[dotted]
    return found[: len(expected)] == expected


def check(server_module: ModuleType, version: str) -> None:
    """Refuse an upstream that we do not know.

    Args:
        server_module: mlx_lm.server, before anything in it was replaced.
        version: ``mlx_lm.__version__``.

    Raises:
        UnsupportedUpstreamError: for a version outside SUPPORTED, or names that are not there.
    """
    low, high = SUPPORTED
    if not low <= _release(version) < high:
        raise UnsupportedUpstreamError(
            f"mlx-lm {version} is not supported: harden.mlx knows {_dotted(low)} up to, not"
            f" including, {_dotted(high)};"
            f" run: pip install 'mlx-lm>={_dotted(low)},<{_dotted(high)}'",
            version=version,
        )
    if missing := missing_names(server_module):
        raise UnsupportedUpstreamError(
            f"mlx_lm.server {version} lacks what harden.mlx builds on: {', '.join(missing)};"
            " install an mlx-lm release of the supported range, unpatched",
            version=version,
            missing=missing,
        )


def _release(version: str) -> tuple[int, ...]:
    digits = [part for part in version.partition("+")[0].split(".") if part.isdigit()]
    return tuple(int(part) for part in digits[:3])


def _dotted(release: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in release)
