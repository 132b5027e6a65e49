"""A model folder as its path and the names in it tell; what the files hold is model_files' part."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from harden.exceptions import ValidationError
from harden.model_files import TOKENIZERS

if TYPE_CHECKING:
    from harden.config_results import ModelPathResult

# os.path's functions never raise for odd text, as Path's may, and callers may patch them.
# ruff: noqa: PTH110, PTH111, PTH112, PTH114, PTH208

__all__ = ["look_into", "names_a_folder", "shown"]

_LONGEST_SHOWN = 60


def look_into(path: object) -> ModelPathResult:
    """Tell what a model folder holds.

    Raises:
        ValidationError: it does not exist, is no folder, cannot be read or has no config.json.
    """
    folder = _folder(path)
    try:
        names = os.listdir(folder)
    except (OSError, ValueError) as error:
        raise _path_error(path, "cannot be listed", "Check its permissions.") from error
    if "config.json" not in names:
        raise _path_error(
            path,
            "has no config.json, so it is not a model folder",
            "Give the folder that holds config.json, the tokenizer and the weights.",
        )
    has_tokenizer = not TOKENIZERS.isdisjoint(names)
    has_weights = any(name.endswith(".safetensors") for name in names)
    return {
        "valid": has_tokenizer and has_weights,
        "exists": True,
        "has_config": True,
        "has_tokenizer": has_tokenizer,
        "has_weights": has_weights,
        "is_symlink": os.path.islink(folder),
    }


def names_a_folder(model: str) -> bool:
    """Tell a folder from a hub id or the name of an embedded model."""
    return (
        model.startswith((".", "~", "/"))
        or "\\" in model
        or model.count("/") > 1
        or os.path.isdir(model)
    )


def _folder(path: object) -> str:
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise _path_error(path, "is not a path", "Give the path of a model folder.")
    folder = os.path.expanduser(str(path))
    if not os.path.exists(folder):
        raise _path_error(path, "does not exist", "Check the spelling of the path.")
    if not os.path.isdir(folder):
        raise _path_error(path, "is not a folder", "Give the folder, not a file in it.")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise _path_error(path, "cannot be read", "Check its permissions.")
    return folder


def _path_error(path: object, what: str, fix: str) -> ValidationError:
    given = str(path) if isinstance(path, os.PathLike) else path
    return ValidationError(
        f"the model path {shown(given)} {what}. {fix}", setting="model path", value=path, fix=fix
    )


def shown(value: object) -> str:
    """Make any value fit for one line of a message."""
    text = value if isinstance(value, str) and value.isprintable() and value else ascii(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
