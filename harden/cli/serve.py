"""``harden serve``: the hardened server."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harden.exceptions import ValidationError
from harden.redaction import RedactionFilter
from harden.settings import add_arguments, worker_arguments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harden.gateway.backends import Backend
    from harden.gateway.configuration import GatewayConfiguration

__all__ = ["register", "run"]

logger = logging.getLogger(__name__)

_LONGEST_SOCKET_PATH = 104
_SOCKET_NAME_LENGTH = len("/harden-xxxxxxxx/worker-1000000.sock")
_WANTED_OPEN_FILES = 65_536
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def register(subparsers: Any) -> None:
    """Add the command to the parser of ``harden``."""
    parser = subparsers.add_parser(
        "serve",
        help="serve a model: a gateway that survives, before a worker that may die",
        description="Serve a model over an OpenAI-compatible API. Every flag of mlx_lm.server"
        " works here, with its name and default.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser, os.environ)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until told to stop; the exit code."""
    from harden.cli.check import preflight, report_problems  # noqa: PLC0415 - rich, only here

    _set_up_logging(arguments.log_level)
    problems = preflight(arguments, os.environ)
    if problems:
        report_problems(problems)
        return 1
    _warn_of_flags_without_effect(arguments)
    _raise_open_files_limit()
    with _socket_directory() as directory:
        backend, name = _backend(arguments, directory)
        asyncio.run(_serve(_configuration(arguments, name), backend, arguments))
    return 0


def _set_up_logging(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handler.addFilter(RedactionFilter())
    logging.basicConfig(level=level, handlers=[handler], force=True)


def _warn_of_flags_without_effect(arguments: argparse.Namespace) -> None:
    for name in ("memory_limit", "cache_dir", "cache_bytes"):
        if getattr(arguments, name) is not None:
            flag = "--" + name.replace("_", "-")
            logger.warning("%s is checked but not in force in this version", flag)


def _raise_open_files_limit() -> None:
    """Take as many descriptors as the system gives; macOS starts a process with 256."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_OPEN_FILES if hard == resource.RLIM_INFINITY else min(_WANTED_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextmanager
def _socket_directory() -> Iterator[Path]:
    """A private folder whose name leaves room for a unix socket's path, whatever TMPDIR says."""
    parent = Path(tempfile.gettempdir())
    if len(str(parent)) + _SOCKET_NAME_LENGTH >= _LONGEST_SOCKET_PATH:
        parent = Path("/tmp")  # noqa: S108 - the folder made in it is private
    directory = Path(tempfile.mkdtemp(prefix="harden-", dir=parent))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _backend(arguments: argparse.Namespace, directory: Path) -> tuple[Backend, str | None]:
    from harden.gateway.backends import CommandBackend, MlxBackend  # noqa: PLC0415 - light help

    if arguments.backend:
        _check_template(arguments.backend)
        name = arguments.served_model_name
        return CommandBackend(arguments.backend, arguments.model), name
    from harden.models.resolve import resolve_model  # noqa: PLC0415 - only where it is needed

    _build_apart(arguments.model)
    model = resolve_model(arguments.model, progress=lambda text: print(text, file=sys.stderr))
    name = arguments.served_model_name or model.name
    flags = tuple(_worker_flags(arguments))
    return MlxBackend(str(model.path), name, flags, directory), name


def _build_apart(model: str) -> None:
    """Build an embedded model in another process: what that loads must not stay in the gateway."""
    from harden.models.resolve import TINY_VARIANTS  # noqa: PLC0415 - only where it is needed
    from harden.models.tiny import tiny_model_folder  # noqa: PLC0415 - as above
    from harden.models.tiny.folder import is_whole  # noqa: PLC0415 - as above

    variant = TINY_VARIANTS.get(model)
    if variant is not None and not is_whole(tiny_model_folder(variant)):
        command = [sys.executable, "-m", "harden.models.tiny", "--variant", variant]
        # What goes wrong there is said by resolve_model, which tries again.
        subprocess.run(command, stdout=subprocess.DEVNULL, check=False)


def _check_template(template: str) -> None:
    if "{port}" not in template:
        raise ValidationError(
            f"--backend {template!r} has no {{port}} in it; write the command with {{port}}"
            " where its port number belongs",
            setting="--backend",
            value=template,
        )


def _worker_flags(arguments: argparse.Namespace) -> list[str]:
    """Upstream's flags for the worker.

    Its log starts at WARNING: routine lines are not worth their cost, and at DEBUG upstream logs
    prompts and answers.
    """
    level = arguments.log_level if arguments.log_level in ("ERROR", "CRITICAL") else "WARNING"
    flags = [f for f in worker_arguments(arguments) if not f.startswith("--log-level")]
    return [*flags, f"--log-level={level}"]


def _configuration(arguments: argparse.Namespace, name: str | None) -> GatewayConfiguration:
    from harden.gateway.configuration import GatewayConfiguration  # noqa: PLC0415 - as above

    key = os.environ.get("HARDEN_API_KEY") or None
    return GatewayConfiguration(
        host=arguments.host,
        port=arguments.port,
        model_name=name,
        allowed_origins=tuple(arguments.allowed_origins),
        api_key=key,
        metrics_key=os.environ.get("METRICS_API_KEY") or key,
        max_running=arguments.max_running,
        max_waiting=arguments.max_waiting,
        max_body_bytes=arguments.max_body_bytes,
        request_timeout_s=arguments.request_timeout,
        drain_timeout_s=arguments.drain_timeout,
        stall_timeout_s=arguments.stall_timeout,
        start_timeout_s=arguments.start_timeout,
        warm_up=arguments.kv_cache_warmup,
    )


async def _serve(
    configuration: GatewayConfiguration, backend: Backend, arguments: argparse.Namespace
) -> None:
    from harden.gateway.server import GatewayServer  # noqa: PLC0415 - aiohttp, only when serving

    def banner(url: str) -> None:
        for line in _banner(url, configuration, arguments):
            print(line, file=sys.stderr, flush=True)

    await GatewayServer(configuration, backend).run(banner)


def _banner(
    url: str, configuration: GatewayConfiguration, arguments: argparse.Namespace
) -> list[str]:
    limits = (
        f"{configuration.max_running} running, {configuration.max_waiting} waiting,"
        f" {configuration.request_timeout_s:g} s a request,"
        f" {configuration.max_body_bytes / 1e6:g} MB a body"
    )
    memory = arguments.prompt_cache_bytes
    in_memory = f"{arguments.prompt_cache_size} sequences in memory" + (
        f", at most {memory / 1e6:g} MB" if memory else ""
    )
    return [
        f"harden: Listening on {url}",
        f"  model    {configuration.model_name or arguments.backend}",
        f"  limits   {limits}",
        f"  cache    {in_memory}",
        f"  metrics  {url}/v1/metrics" + (" (key needed)" if configuration.metrics_key else ""),
        "  stop     Ctrl-C, or SIGTERM; running requests may end first",
    ]
