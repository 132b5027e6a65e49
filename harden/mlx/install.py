"""Put harden's subclasses in the place of mlx_lm.server's classes."""

from __future__ import annotations

import functools
import logging
import sys
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import mlx_lm
import mlx_lm.server as upstream

from harden.mlx import upstream as contract
from harden.mlx.generation import ResponseGenerator
from harden.mlx.handler import APIHandler
from harden.mlx.prompt_cache import PromptCache
from harden.mlx.service import Service, public_model_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

__all__ = ["HTTPServer", "install"]

logger = logging.getLogger(__name__)

_NO_LIMIT = 1 << 63
_UPSTREAM_RUN_HTTP_SERVER = upstream._run_http_server  # noqa: SLF001 - named in the contract


class HTTPServer(ThreadingHTTPServer):
    """Upstream's server class with room for a burst: five waiting connections are not enough."""

    request_queue_size = 1024
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """A client that went away is no error; others go to the log and not to stderr."""
        error = sys.exception()
        if not isinstance(error, ConnectionError):
            logger.error("A connection's handler failed", exc_info=error)


def install(
    server_module: ModuleType,
    *,
    served_model_name: str | None = None,
    server_class: type[ThreadingHTTPServer] = HTTPServer,
    behind_gateway: bool = False,
    on_hopeless: Callable[[], None] = lambda: None,
) -> None:
    """Harden ``mlx_lm.server`` in this process; call it before its ``main``.

    Every flag of upstream keeps working. A second call changes nothing but the options.

    Args:
        server_module: the module ``mlx_lm.server``.
        served_model_name: the name that clients use; by default the hub id or the folder's last
            part of ``--model``.
        server_class: what listens; the worker passes its unix socket.
        behind_gateway: a gateway in front measures, logs and guards; this process only serves.
        on_hopeless: called on the generation thread when it cannot be restarted.

    Raises:
        UnsupportedUpstreamError: for an mlx_lm that is not the one we know; nothing was changed.
    """
    if server_module.APIHandler is not APIHandler:
        contract.check(server_module, mlx_lm.__version__)
    server_module.LRUPromptCache = PromptCache  # type: ignore[attr-defined]
    server_module.ResponseGenerator = ResponseGenerator  # type: ignore[attr-defined]
    server_module.APIHandler = APIHandler  # type: ignore[attr-defined]
    server_module.run = functools.partial(  # type: ignore[attr-defined]
        _run,
        served_model_name=served_model_name,
        listener_class=server_class,
        behind_gateway=behind_gateway,
        on_hopeless=on_hopeless,
    )


def _run(
    host: str,
    port: int,
    model_provider: Any,
    *_: Any,
    served_model_name: str | None,
    listener_class: type[ThreadingHTTPServer],
    behind_gateway: bool,
    on_hopeless: Callable[[], None],
) -> None:
    arguments = model_provider.cli_args
    name = public_model_name(arguments.model, served_model_name)
    service = Service(model_name=name, behind_gateway=behind_gateway)
    max_bytes = arguments.prompt_cache_bytes
    prompt_cache = PromptCache(
        arguments.prompt_cache_size,
        _NO_LIMIT if max_bytes is None else max_bytes,
        errors=service.errors,
    )
    generator = ResponseGenerator(model_provider, prompt_cache, on_hopeless)
    generator.service = service
    service.attach(generator, prompt_cache)
    if generator._rank != 0:  # noqa: SLF001 - upstream's own distinction of distributed ranks
        generator.join()
        return
    _UPSTREAM_RUN_HTTP_SERVER(
        host, port, generator, server_class=listener_class, handler_class=APIHandler
    )
