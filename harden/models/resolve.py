"""From the name that a user gives to a model's folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harden.exceptions import ValidationError
from harden.model_files import check_model_folder
from harden.models.hub import fetch_model, is_hub_id
from harden.models.tiny.build import tiny_model_path
from harden.models.tiny.folder import find_cache_home

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["ResolvedModel", "resolve_model"]

DEFAULT = "tiny"
TINY_VARIANTS = {"tiny": "plain", "tiny-sliding": "sliding"}


@dataclass(frozen=True)
class ResolvedModel:
    """A model that is on this machine, whole as far as names, sizes and headers tell.

    Attributes:
        name: what clients may see: a built-in name, a hub id, or a folder's last part.
        path: its folder; for the operator only.
    """

    name: str
    path: Path


def resolve_model(
    name: str | None,
    *,
    environment: Mapping[str, str] = os.environ,
    progress: Callable[[str], None] | None = None,
) -> ResolvedModel:
    """Find, build or download the model that `name` means.

    Args:
        name: "tiny" or "tiny-sliding" (built on the spot), a folder, or a hub id of the form
            organisation/model; None or blank: the environment's MLX_MODEL, else "tiny".
        environment: read for MLX_MODEL and the cache home.
        progress: called with one line of text before each thing that takes time.

    Raises:
        ValidationError: there is no such model, or it is not whole; one line that says what to do.
        DependencyError: a package that building or downloading needs is missing.
    """
    given = (name or "").strip()
    wanted = given or environment.get("MLX_MODEL", "").strip() or DEFAULT
    setting = "--model" if given else "MLX_MODEL"
    if wanted in TINY_VARIANTS:
        home = find_cache_home(environment)
        path = tiny_model_path(TINY_VARIANTS[wanted], home, progress=progress)
        return ResolvedModel(wanted, path)
    folder = os.path.expanduser(wanted)  # noqa: PTH111 - unlike Path's, it never raises
    if os.path.lexists(folder) or not is_hub_id(wanted):
        return _folder_model(wanted, Path(folder), setting)
    path = fetch_model(wanted, progress=progress)
    _require_whole(wanted, path, setting)
    return ResolvedModel(wanted, path)


def _folder_model(wanted: str, folder: Path, setting: str) -> ResolvedModel:
    if os.path.basename(wanted) == wanted and not os.path.lexists(folder):  # noqa: PTH119 - "a/."
        fix = "Use a folder, a hub id (organisation/model), 'tiny' or 'tiny-sliding'."
        raise ValidationError(
            f"There is no model {_one_line(wanted)}. {fix}", setting=setting, value=wanted, fix=fix
        )
    _require_whole(wanted, folder, setting)
    absolute = Path(os.path.abspath(folder))  # noqa: PTH100 - keeps a link's own name
    return ResolvedModel(absolute.name or "model", absolute)


def _require_whole(wanted: str, folder: Path, setting: str) -> None:
    for problem in check_model_folder(folder):
        raise ValidationError(
            f"The model {_one_line(wanted)} {problem.what}. {problem.fix}",
            setting=setting,
            value=wanted,
            fix=problem.fix,
        )


def _one_line(text: str) -> str:
    return text if text.isprintable() else ascii(text)
