"""Build the tiny model once, and hand out its folder ever after."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from harden.exceptions import DependencyError, ValidationError
from harden.models.tiny.folder import exclusive, find_cache_home, is_whole, make_private, publish
from harden.models.tiny.recipe import RECIPES, Recipe
from harden.models.tiny.tokenizer import (
    end_of_turn_id,
    spoken_token_ids,
    tokenizer_config,
    train_tokenizer,
)
from harden.models.tiny.weights import random_weights

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["model_files", "tiny_model_folder", "tiny_model_path"]


def tiny_model_folder(variant: str = "plain", cache_home: Path | None = None) -> Path:
    """Where the tiny model of that variant is, or will be.

    Args:
        variant: "plain", or "sliding" for one whose first layer has a rotating KV cache.
        cache_home: default: HARDEN_CACHE_HOME, else harden's part of the platform's cache folder.

    Raises:
        ValidationError: an unknown variant, or no home folder to keep the cache in.
    """
    if variant not in RECIPES:
        known = ", ".join(RECIPES)
        raise ValidationError(
            f"There is no tiny model {variant!r}: use one of {known}.",
            setting="variant",
            value=variant,
            fix=f"Use one of {known}.",
        )
    return (cache_home or find_cache_home(os.environ)) / "models" / RECIPES[variant].folder_name


def tiny_model_path(
    variant: str = "plain",
    cache_home: Path | None = None,
    *,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """The folder of the tiny model, built first if it is missing or damaged.

    Safe when several processes call it at once: one builds, the others wait and use its folder.
    A process that dies while building leaves nothing that is ever used.

    Args:
        variant: "plain", or "sliding" for one whose first layer has a rotating KV cache.
        cache_home: default: HARDEN_CACHE_HOME, else harden's part of the platform's cache folder.
        progress: called with one line of text before each thing that takes time.

    Raises:
        ValidationError: an unknown variant, or a cache home that cannot be written.
        DependencyError: numpy, tokenizers or safetensors is not installed.
    """
    folder = tiny_model_folder(variant, cache_home)
    if is_whole(folder):
        return folder
    report = progress or (lambda _line: None)
    try:
        make_private(folder.parent.parent)
        make_private(folder.parent)
        with exclusive(folder):
            if not is_whole(folder):
                report(f"Building the tiny model ({variant}) in {folder}")
                publish(folder, model_files(RECIPES[variant]))
    except OSError as error:
        fix = "Set HARDEN_CACHE_HOME to a folder that can be written and has 2 MB of room."
        raise ValidationError(
            f"The tiny model cannot be written to {folder.parent}: {error.strerror}. {fix}",
            setting="HARDEN_CACHE_HOME",
            value=str(folder.parent.parent),
            fix=fix,
        ) from error
    return folder


def model_files(recipe: Recipe) -> dict[str, bytes]:
    """Every file of the model by name, the same bytes at every call.

    Raises:
        DependencyError: numpy, tokenizers or safetensors is not installed.
    """
    try:
        from safetensors.numpy import save  # noqa: PLC0415 - an extra, needed only when building

        tokenizer = train_tokenizer(recipe.vocabulary_size)
        weights = random_weights(recipe, spoken_token_ids(tokenizer))
    except ModuleNotFoundError as error:
        raise DependencyError(
            f"The tiny model needs the package {error.name}: pip install 'mlx-harden[server]'",
            module=error.name,
        ) from error
    config = recipe.config(end_of_turn_id(tokenizer))
    return {
        "config.json": _json(config),
        "model.safetensors": save(weights, metadata={"format": "pt"}),
        "tokenizer.json": tokenizer.to_str().encode(),
        "tokenizer_config.json": _json(tokenizer_config(recipe.context_length)),
    }


def _json(content: object) -> bytes:
    return json.dumps(content, indent=2, sort_keys=True).encode()
