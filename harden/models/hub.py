"""Models by hub id: used from the local cache where they are whole, else downloaded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from harden.exceptions import DependencyError, ValidationError
from harden.model_files import check_model_folder

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["fetch_model", "is_hub_id"]

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
# What mlx_lm loads: configuration, tokenizer, weights.
NEEDED_FILES = [
    "*.json",
    "*.jsonl",
    "*.jinja",
    "*.py",
    "*.tiktoken",
    "*.txt",
    "model*.safetensors",
    "tiktoken.model",
    "tokenizer.model",
]


def is_hub_id(name: str) -> bool:
    """Whether `name` has the form organisation/model."""
    return HUB_ID.fullmatch(name) is not None


def fetch_model(model_id: str, *, progress: Callable[[str], None] | None = None) -> Path:
    """The folder of a hub's model.

    A whole copy in the local cache is used as it is, without asking the hub, so that a restart
    needs no network and serves the same weights as before.

    Args:
        model_id: organisation/model.
        progress: called with one line of text before a download; the hub's client then shows
            its own progress bars on stderr.

    Raises:
        ValidationError: the hub cannot be reached, or does not give us that model.
        DependencyError: huggingface_hub is not installed.
    """
    try:
        import huggingface_hub  # noqa: PLC0415 - an extra, and slow to import
    except ModuleNotFoundError as error:
        raise DependencyError(
            "Models of the hub need the package huggingface_hub: pip install 'mlx-harden[server]'",
            module="huggingface_hub",
        ) from error
    try:
        cached = huggingface_hub.snapshot_download(
            model_id, allow_patterns=NEEDED_FILES, local_files_only=True
        )
        if not check_model_folder(Path(cached)):
            return Path(cached)
    except (OSError, ValueError):
        pass  # not in the cache, or not all of it
    if progress:
        progress(f"Downloading {model_id} from the hub")
    try:
        return Path(huggingface_hub.snapshot_download(model_id, allow_patterns=NEEDED_FILES))
    except Exception as error:  # its HTTP library, and so its errors, differ between versions
        raise _refusal(model_id, error) from error


def _refusal(model_id: str, error: Exception) -> ValidationError:
    from huggingface_hub import errors  # noqa: PLC0415 - an extra, and slow to import

    if isinstance(error, errors.GatedRepoError):
        what, fix = (
            "is open only to those who accepted its terms",
            "Accept them, then set HF_TOKEN.",
        )
    elif isinstance(error, errors.RepositoryNotFoundError):
        what, fix = "does not exist on the hub, or is private", "Check its name, or set HF_TOKEN."
    elif isinstance(error, errors.LocalEntryNotFoundError):
        what = "is no folder here and not in the local cache, and the hub cannot be reached"
        fix = "Check the network (and HF_HUB_OFFLINE), give a folder, or use the model 'tiny'."
    else:
        reason = getattr(error, "strerror", None) or type(error).__name__
        what, fix = f"cannot be downloaded: {reason}", "Check the network and the free disk space."
    return ValidationError(
        f"The model {model_id} {what}. {fix}", setting="--model", value=model_id, fix=fix
    )
