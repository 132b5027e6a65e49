"""What one hardened server process shares between its connections."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import CacheNotFound, scan_cache_dir

from harden.error_handler import ErrorHandler
from harden.memory_probes import memory_by_kind
from harden.metrics_collector import MetricsCollector
from harden.server_metrics import ServerMetrics

if TYPE_CHECKING:
    from harden.mlx.generation import ResponseGenerator
    from harden.mlx.prompt_cache import PromptCache

__all__ = ["Service", "public_model_name"]


def public_model_name(model: str | None, served_model_name: str | None = None) -> str | None:
    """The name that clients use: the given one, a hub id, or a folder's last part; never a path.

    None where the server has no default model: then clients name models as upstream allows.
    """
    if served_model_name or model is None:
        return served_model_name
    return Path(model).resolve().name if Path(model).exists() else model


class Service:
    """Metrics, names and readiness of one process; the handler's way to all of them."""

    def __init__(self, *, model_name: str | None, behind_gateway: bool) -> None:
        """``attach`` must follow before anything is asked of it."""
        self.model_name = model_name
        self.behind_gateway = behind_gateway
        collector = MetricsCollector()
        self.metrics = ServerMetrics(collector)
        self.metrics.bind_mode(self._mode)
        self.errors = ErrorHandler(metrics=collector)
        # Behind a gateway only the gateway can reach us, and it has asked for the key.
        self.api_key = None if behind_gateway else os.environ.get("HARDEN_API_KEY") or None
        self.metrics_key = os.environ.get("METRICS_API_KEY") or self.api_key

    def _mode(self) -> tuple[str, bool]:
        status = self.errors.check_degradation_status()
        return status["mode"], status["cache_enabled"]

    def attach(self, generator: ResponseGenerator, prompt_cache: PromptCache) -> None:
        """Connect the parts that exist only once the server runs."""
        self._generator = generator
        self._prompt_cache = prompt_cache
        waiting = generator.requests.qsize
        self.metrics.bind_queue(
            running=lambda: max(0, generator.progress.active - waiting()), waiting=waiting
        )

    def is_ready(self) -> bool:
        """Whether a request sent now would be generated."""
        return self._generator.model_is_loaded and self._generator.generation_available()

    def status(self) -> dict[str, Any]:
        """Everything that the gateway asks of its worker, in one answer."""
        reuse = self._prompt_cache.figures()
        mode, cache_enabled = self._mode()
        return {
            "ready": self.is_ready(),
            "mode": mode,
            "cache_enabled": cache_enabled,
            "generated_tokens": self._generator.progress.tokens,
            "stalled_s": self._generator.progress.stalled_s,
            "generation_restarts": self._generator.thread_restarts,
            "memory_bytes": memory_by_kind(),
            "prompt_cache": {"sequences": reuse.sequences, "size_bytes": reuse.size_bytes},
        }

    def model_names(self) -> list[str]:
        """Names that a request may give as its model."""
        if self.model_name is not None:
            return [self.model_name]
        try:
            repositories = scan_cache_dir().repos
        except CacheNotFound:
            return []
        return sorted(repo.repo_id for repo in repositories if repo.repo_type == "model")
