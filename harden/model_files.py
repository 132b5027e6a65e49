"""What is wrong with a model folder, told from names, sizes and headers alone.

No weight is read, so a folder of any size is checked in milliseconds, and no content of a file
makes a check raise.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = ["ModelProblem", "check_model_folder"]

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
TOKENIZERS = frozenset(
    {"tokenizer.json", "tokenizer.model", "tiktoken.model", "spiece.model", "vocab.json"}
)
SHARD = re.compile(r"(?P<stem>model.*)-\d{5}-of-(?P<count>\d{5})\.safetensors")
UNFINISHED_SUFFIXES = (".incomplete", ".part", ".aria2", ".crdownload")
NEEDED_SUFFIXES = (".json", ".jinja", ".model", ".safetensors", ".tiktoken", ".txt")
# The limit of the format's own reader: https://github.com/safetensors/safetensors#format
LARGEST_HEADER_BYTES = 100_000_000
LARGEST_JSON_BYTES = 100_000_000
LFS_POINTER = b"version https://git-lfs"

DOWNLOAD_AGAIN = "Download the model again."
WRONG_FOLDER = (
    "Give the folder that holds config.json, the tokenizer and the safetensors files of a model."
)


@dataclass(frozen=True)
class ModelProblem:
    """One reason why a model cannot be loaded.

    Attributes:
        what: what is wrong, as a clause that can follow the folder's name.
        fix: what to do about it, as a sentence.
    """

    what: str
    fix: str


def check_model_folder(path: Path) -> list[ModelProblem]:
    """Every problem of a model folder that can be seen without reading its weights.

    Found are: a folder that is missing, empty or not a model's; a download that did not finish,
    dangling links, shards that the index names and the folder lacks, safetensors files shorter
    than their header says; a missing or unreadable config.json; a missing tokenizer.

    Args:
        path: the folder, as the user named it.

    Returns:
        The problems, gravest first; empty for a folder that looks whole.
    """
    try:
        names = sorted(os.listdir(path))  # noqa: PTH208 - unlike iterdir, it takes any spelling
    except FileNotFoundError:
        return [ModelProblem("does not exist", "Check the spelling of the path.")]
    except NotADirectoryError:
        return [ModelProblem("is a file, not a folder", WRONG_FOLDER)]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        return [ModelProblem(f"cannot be read: {reason}", "Check the path and its permissions.")]
    if not names:
        return [ModelProblem("is an empty folder", WRONG_FOLDER)]
    return [
        *_dangling_links(path, names),
        *_config_problems(path),
        *_unfinished_downloads(path, names),
        *_shard_problems(path, names),
        *_weights_problems(path, names),
        *_tokenizer_problems(names),
    ]


def _dangling_links(path: Path, names: list[str]) -> Iterator[ModelProblem]:
    dangling = [
        name
        for name in names
        if name.endswith(NEEDED_SUFFIXES)
        and os.path.islink(path / name)  # noqa: PTH114 - unlike Path's, these two never raise
        and not os.path.exists(path / name)  # noqa: PTH110
    ]
    if dangling:
        yield ModelProblem(f"holds links to files that are gone: {_some(dangling)}", DOWNLOAD_AGAIN)


def _unfinished_downloads(path: Path, names: list[str]) -> Iterator[ModelProblem]:
    unfinished = [name for name in names if name.endswith(UNFINISHED_SUFFIXES)]
    if not _weights(names):
        # Parts kept elsewhere may belong to another revision, unless the weights are missing.
        unfinished += [name for name in _kept_parts(path) if name.endswith(UNFINISHED_SUFFIXES)]
    if unfinished:
        yield ModelProblem(f"is half-downloaded: {_some(unfinished)}", DOWNLOAD_AGAIN)


def _kept_parts(path: Path) -> list[str]:
    """Names in the folders where the hub's client keeps what it has not finished."""
    parts = _names_in(path / ".cache" / "huggingface" / "download")
    if path.parent.name == "snapshots":
        parts += _names_in(path.parent.parent / "blobs")
    return parts


def _config_problems(path: Path) -> Iterator[ModelProblem]:
    if not _is_file(path / CONFIG):
        if not os.path.islink(path / CONFIG):  # noqa: PTH114
            yield ModelProblem(f"is not a model folder: it has no {CONFIG}", WRONG_FOLDER)
        return
    config = _read_json(path / CONFIG)
    if not isinstance(config, dict):
        yield ModelProblem(f"has a {CONFIG} that cannot be read as a JSON object", DOWNLOAD_AGAIN)
    elif not isinstance(config.get("model_type"), str):
        yield ModelProblem(f"has a {CONFIG} without a model_type", WRONG_FOLDER)


def _shard_problems(path: Path, names: list[str]) -> Iterator[ModelProblem]:
    if not _is_file(path / INDEX):
        yield from _incomplete_sets(names)
        return
    index = _read_json(path / INDEX)
    shards = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(shards, dict):
        yield ModelProblem(f"has a {INDEX} that cannot be read", DOWNLOAD_AGAIN)
        return
    expected = {shard for shard in shards.values() if isinstance(shard, str)}
    if missing := sorted(expected.difference(names)):
        yield ModelProblem(
            f"lacks {len(missing)} of {len(expected)} weight files: {_some(missing)}",
            DOWNLOAD_AGAIN,
        )


def _incomplete_sets(names: list[str]) -> Iterator[ModelProblem]:
    """Sets of shards with a gap, told from their numbers: `model-00001-of-00003.safetensors`."""
    matches = [match for name in names if (match := SHARD.fullmatch(name))]
    found = Counter((match["stem"], int(match["count"])) for match in matches)
    for (stem, count), present in sorted(found.items()):
        if present < count:
            shards = _some([f"{stem}-…-of-{count:05}.safetensors"])
            yield ModelProblem(
                f"lacks {count - present} of {count} weight files: {shards}", DOWNLOAD_AGAIN
            )


def _weights(names: list[str]) -> list[str]:
    """The files that mlx_lm loads: those that match `model*.safetensors`."""
    return [name for name in names if name.startswith("model") and name.endswith(".safetensors")]


def _weights_problems(path: Path, names: list[str]) -> Iterator[ModelProblem]:
    if not (weights := _weights(names)):
        yield ModelProblem("has no weights: no file is named model*.safetensors", WRONG_FOLDER)
    for name in weights:
        if _is_file(path / name) and (damage := _safetensors_damage(path / name)):
            yield ModelProblem(f"has weights that {damage[0]}: {_some([name])}", damage[1])


def _safetensors_damage(file: Path) -> tuple[str, str] | None:
    """What is wrong with a safetensors file's header or length, and the fix."""
    try:
        with file.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            start = stream.read(len(LFS_POINTER))
            if start == LFS_POINTER:
                return "are only a Git LFS pointer", "Run git lfs pull in the folder."
            length = int.from_bytes(start[:8], "little")
            if size < 8 or length > min(size - 8, LARGEST_HEADER_BYTES):  # noqa: PLR2004 - u64
                return "are cut off or not safetensors", DOWNLOAD_AGAIN
            stream.seek(8)
            header = _parse(stream.read(length))
    except OSError as error:
        return f"cannot be read ({error.strerror})", "Check the permissions of the file."
    ends = _data_ends(header)
    if ends is None:
        return "have a damaged header", DOWNLOAD_AGAIN
    needed = 8 + length + max(ends, default=0)
    if size < needed:
        return f"are cut off after {size:,} of {needed:,} bytes", DOWNLOAD_AGAIN
    return None


def _data_ends(header: object) -> list[int] | None:
    """Where each tensor's bytes end, counted from the header's end; None if it does not say."""
    if not isinstance(header, dict):
        return None
    try:
        ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
    except (KeyError, IndexError, TypeError):
        return None
    return ends if all(type(end) is int for end in ends) else None


def _tokenizer_problems(names: list[str]) -> Iterator[ModelProblem]:
    if TOKENIZERS.isdisjoint(names) and not any(name.endswith(".tiktoken") for name in names):
        yield ModelProblem(
            "has no tokenizer: no tokenizer.json or tokenizer.model",
            "Copy the tokenizer's files from the model's original folder, or download it again.",
        )


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208
    except OSError:
        return []


def _is_file(path: Path) -> bool:
    # Not Path.is_file, which raises for a path that is too long.
    return os.path.isfile(path)  # noqa: PTH113


def _read_json(path: Path) -> Any:
    """The file's JSON value, or None for a file that has none."""
    try:
        with path.open("rb") as stream:
            # A read of more than there is would allocate it all.
            return _parse(stream.read(min(os.fstat(stream.fileno()).st_size, LARGEST_JSON_BYTES)))
    except OSError:
        return None


def _parse(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):  # ValueError: bad JSON, bad UTF-8, a number too long
        return None


def _some(names: Iterable[str], at_most: int = 3) -> str:
    """The first names, printable whatever they hold."""
    listed = [name if name.isprintable() else ascii(name) for name in names]
    rest = len(listed) - at_most
    return ", ".join(listed[:at_most]) + (f" and {rest} more" if rest > 0 else "")
