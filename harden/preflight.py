"""Looks for everything that would make a server fail, before it is started.

Each check takes the settings and returns what it found; nothing is started, downloaded, written
or imported. An error means that serving cannot work, a warning that it may not be what was meant.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harden.config_validator import ConfigValidator
from harden.dependencies import REQUIREMENTS, find_unmet
from harden.listening_address import bind_problem, is_loopback
from harden.model_files import check_model_folder
from harden.model_path import names_a_folder, shown
from harden.settings import SETTINGS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection, Iterator, Mapping

__all__ = ["Problem", "find_problems"]

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_LITTLE_DISK_BYTES = 1_000_000_000
_NEEDED_BY_THE_MODEL = {"mlx", "mlx_lm"}


@dataclass(frozen=True)
class Problem:
    """Something that an operator should change before serving.

    Attributes:
        setting: the flag, variable or package it is about.
        what: what is wrong, with which value.
        fix: what to do about it, as a sentence.
        severity: "error" where serving cannot work, else "warning".
    """

    setting: str
    what: str
    fix: str
    severity: Literal["error", "warning"] = "error"


def find_problems(
    settings: argparse.Namespace,
    environment: Mapping[str, str],
    *,
    built_in_models: Collection[str] = (),
) -> list[Problem]:
    """List every problem of a configuration, errors first.

    Args:
        settings: what a parser with :func:`harden.settings.add_arguments` returned.
        environment: the variables that the server will see.
        built_in_models: names of models that need no folder.
    """
    problems = [
        *_unreadable_variables(environment),
        *_address_problems(settings, environment),
        *_backend_problems(settings),
        *_model_problems(settings, environment, built_in_models),
        *_cache_problems(settings),
        *_package_problems(settings),
    ]
    return sorted(problems, key=lambda problem: problem.severity != "error")


def _unreadable_variables(environment: Mapping[str, str]) -> Iterator[Problem]:
    for setting in SETTINGS:
        text = environment.get(setting.environment, "") if setting.environment else ""
        if text.strip():
            try:
                setting.read(text)
            except ValueError as error:
                name = str(setting.environment)
                yield Problem(name, str(error), f"Set {name} to another value, or unset it.")


def _address_problems(
    settings: argparse.Namespace, environment: Mapping[str, str]
) -> Iterator[Problem]:
    guarded = environment.get("HARDEN_API_KEY", "").strip() or settings.insecure
    if not guarded and not is_loopback(settings.host):
        yield Problem(
            "--host",
            f"{shown(settings.host)} is open to other machines, and no key guards it",
            "Set HARDEN_API_KEY, or add --insecure if everybody may use the server.",
        )
    if found := bind_problem(settings.host, settings.port):
        yield Problem("--port" if found.about_the_port else "--host", found.what, found.fix)
    elif settings.port:
        warning = ConfigValidator().validate_port(settings.port).get("warning")
        if warning:
            yield Problem("--port", warning, "Use a port from 1024 on.", "warning")


def _backend_problems(settings: argparse.Namespace) -> Iterator[Problem]:
    if settings.backend and "{port}" not in settings.backend:
        yield Problem(
            "--backend",
            f"{shown(settings.backend)} has no {{port}} in it",
            "Write {port} where the command takes its port number.",
        )


def _model_problems(
    settings: argparse.Namespace, environment: Mapping[str, str], built_in: Collection[str]
) -> Iterator[Problem]:
    model = settings.model
    if settings.backend or model in built_in:
        return
    if names_a_folder(model):
        folder = Path(os.path.expanduser(model))  # noqa: PTH111 - unlike Path's, it never raises
        for found in check_model_folder(folder):
            yield Problem("--model", f"{shown(model)} {found.what}", found.fix)
        yield from _memory_problems(settings, folder)
    elif _HUB_ID.fullmatch(model):
        yield from _hub_problems(settings, environment)
    else:
        names = ", ".join(sorted(built_in)) or "tiny"
        yield Problem(
            "--model",
            f"{shown(model)} is neither a folder, nor a hub id, nor an embedded model ({names})",
            "Check the spelling, or give the path of a model folder.",
        )


def _hub_problems(
    settings: argparse.Namespace, environment: Mapping[str, str]
) -> Iterator[Problem]:
    """Look at a hub model's copy in the local cache; one that is not whole gets downloaded."""
    snapshot = _cached_snapshot(settings.model, environment)
    found = check_model_folder(snapshot) if snapshot else []
    if snapshot and not found:
        yield from _memory_problems(settings, snapshot)
        return
    what = found[0].what if found else "is not on this machine yet"
    if environment.get("HF_HUB_OFFLINE", "").strip().lower() in {"1", "on", "yes", "true"}:
        yield Problem(
            "--model",
            f"{settings.model} {what}, and HF_HUB_OFFLINE forbids a download",
            "Unset HF_HUB_OFFLINE, or give the path of a model folder.",
        )
    else:
        fix = "Nothing to do while the network is up: serve downloads it at its start."
        yield Problem("--model", f"{settings.model} {what}", fix, "warning")


def _cached_snapshot(model: str, environment: Mapping[str, str]) -> Path | None:
    home = environment.get("HF_HOME") or "~/.cache/huggingface"
    hub = environment.get("HF_HUB_CACHE") or os.path.join(home, "hub")  # noqa: PTH118 - "~"
    hub = os.path.expanduser(hub)  # noqa: PTH111 - unlike Path's, it never raises
    repository = Path(hub) / f"models--{model.replace('/', '--')}"
    try:
        revision = (repository / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return repository / "snapshots" / revision


def _memory_problems(settings: argparse.Namespace, folder: Path) -> Iterator[Problem]:
    limit_bytes = settings.memory_limit
    weights_bytes = sum(_size_bytes(file) for file in _files(folder, "*.safetensors"))
    if limit_bytes is not None and limit_bytes < weights_bytes:
        yield Problem(
            "--memory-limit",
            f"{limit_bytes:,} bytes are fewer than the {weights_bytes:,} bytes of the weights",
            f"Raise it well above {weights_bytes / 1e9:.1f}GB, or use a smaller model.",
        )


def _cache_problems(settings: argparse.Namespace) -> Iterator[Problem]:
    if not settings.cache_dir:
        return
    folder = Path(os.path.expanduser(settings.cache_dir))  # noqa: PTH111 - it never raises
    existing = next((f for f in (folder, *folder.parents) if os.path.lexists(f)), folder)
    if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
        yield Problem(
            "--cache-dir",
            f"{shown(settings.cache_dir)} cannot be a folder that we write to",
            "Give a folder that exists and is writable, or one that can be made.",
        )
        return
    free_bytes = shutil.disk_usage(existing).free
    used_bytes = sum(_size_bytes(file) for file in _files(folder, "**/*"))
    if settings.cache_bytes and settings.cache_bytes > free_bytes + used_bytes:
        yield Problem(
            "--cache-bytes",
            f"{settings.cache_bytes:,} bytes are more than the {free_bytes + used_bytes:,} "
            "that the disk has for the cache",
            "Lower --cache-bytes, free disk space, or choose another --cache-dir.",
        )
    elif not settings.cache_bytes and free_bytes < _LITTLE_DISK_BYTES:
        yield Problem(
            "--cache-dir",
            f"only {free_bytes:,} bytes are free on its disk",
            "Free disk space, or bound the cache with --cache-bytes.",
            "warning",
        )


def _package_problems(settings: argparse.Namespace) -> Iterator[Problem]:
    for requirement in REQUIREMENTS:
        if settings.backend and requirement.module in _NEEDED_BY_THE_MODEL:
            continue
        if found := find_unmet(requirement):
            yield Problem(requirement.distribution, found, f"Run: {requirement.command}")


def _files(folder: Path, pattern: str) -> Iterator[Path]:
    try:
        yield from folder.glob(pattern)
    except (OSError, ValueError):
        return


def _size_bytes(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else 0
    except (OSError, ValueError):
        return 0
