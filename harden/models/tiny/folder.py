"""Folders that are either whole or not there: locate, verify, publish."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harden.exceptions import ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["exclusive", "find_cache_home", "is_whole", "make_private", "publish"]

MANIFEST = "manifest.json"


def find_cache_home(environment: Mapping[str, str]) -> Path:
    """Where harden keeps what it can build again.

    HARDEN_CACHE_HOME if set, else `harden` in XDG_CACHE_HOME (where it is absolute, as the XDG
    base directory specification wants), in ~/Library/Caches on macOS, or in ~/.cache.

    Raises:
        ValidationError: there is no home folder.
    """
    if own := environment.get("HARDEN_CACHE_HOME", "").strip():
        return Path(os.path.abspath(os.path.expanduser(own)))  # noqa: PTH100, PTH111 - never raise
    shared = Path(environment.get("XDG_CACHE_HOME", ""))
    if shared.is_absolute():
        return shared / "harden"
    try:
        home = Path.home()
    except RuntimeError as error:
        fix = "Set HARDEN_CACHE_HOME to a folder that can be written."
        raise ValidationError(
            f"There is no home folder to keep caches in. {fix}",
            setting="HARDEN_CACHE_HOME",
            fix=fix,
        ) from error
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "harden"


def make_private(folder: Path) -> None:
    """Make `folder` with mode 0700, and whatever is missing above it; an existing one stays."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)


def is_whole(folder: Path) -> bool:
    """Whether `folder` holds a manifest, and every file in it with the digest that it names."""
    try:
        files = json.loads((folder / MANIFEST).read_bytes())["sha256"]
        return bool(files) and all(
            _digest((folder / name).read_bytes()) == digest for name, digest in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the lock of `folder`; the kernel gives it back when the process dies."""
    with (folder.parent / f".{folder.name}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def publish(folder: Path, files: Mapping[str, bytes]) -> None:
    """Put `files` and their manifest at `folder` in one step; the caller holds its lock.

    What an interrupted call left behind is removed, and so is a damaged folder of that name.

    Raises:
        OSError: the disk is full, or the parent folder cannot be written.
    """
    prefix = f".{folder.name}.new-"
    for leftover in folder.parent.glob(f"{prefix}*"):
        _remove(leftover)
    draft = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))  # mode 0700
    try:
        digests = {name: _digest(content) for name, content in sorted(files.items())}
        for name, content in files.items():
            _write_durably(draft / name, content)
        _write_durably(draft / MANIFEST, json.dumps({"sha256": digests}, indent=2).encode())
        _sync_folder(draft)
        _remove(folder)
        draft.rename(folder)
        _sync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
