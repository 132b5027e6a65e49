"""Makes an MLX language-model server survive production, and proves it.

The public names below are loaded when they are first used, so that ``import harden`` costs
almost nothing and pulls in no MLX, web framework, load tester or pytest.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harden.config_validator import ConfigValidator, DependencyError, ValidationError
    from harden.error_handler import CacheError, ErrorHandler, NetworkError, OOMError
    from harden.exceptions import HardenError
    from harden.metrics_collector import MetricsCollector, MetricType

__version__ = "0.1.0"

__all__ = [
    "CacheError",
    "ConfigValidator",
    "DependencyError",
    "ErrorHandler",
    "HardenError",
    "MetricType",
    "MetricsCollector",
    "NetworkError",
    "OOMError",
    "ValidationError",
    "__version__",
]

# `pytest -p harden` works from an uninstalled checkout too: pytest reads this name of the module.
pytest_plugins = ["harden.pytest_plugin"]

_HOME_OF = {
    "CacheError": "harden.exceptions",
    "ConfigValidator": "harden.config_validator",
    "DependencyError": "harden.exceptions",
    "ErrorHandler": "harden.error_handler",
    "HardenError": "harden.exceptions",
    "MetricType": "harden.metrics_collector",
    "MetricsCollector": "harden.metrics_collector",
    "NetworkError": "harden.exceptions",
    "OOMError": "harden.exceptions",
    "ValidationError": "harden.exceptions",
}


def __getattr__(name: str) -> Any:
    """Import the module that a public name lives in, at the name's first use."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'harden' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)
