"""The errors that harden raises: one tree, each class carrying its data.

Every message says what was wrong, with which value, and what to do about it.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "CacheError",
    "DependencyError",
    "HardenError",
    "NetworkError",
    "OOMError",
    "ServerStartError",
    "UnsupportedUpstreamError",
    "ValidationError",
]


class HardenError(Exception):
    """Base of all errors raised by harden."""


class CacheError(HardenError):
    """A cache entry is unreadable, damaged or of another model.

    Attributes:
        key: the entry's key, where it is known.
        reason: a word for what was found: "truncated", "checksum", "json", …
    """

    def __init__(
        self, message: str = "", *, key: str | None = None, reason: str | None = None
    ) -> None:
        super().__init__(message)
        self.key = key
        self.reason = reason


class OOMError(HardenError):
    """Memory ran out, or would have.

    Attributes:
        requested_bytes: size of the allocation that failed, where it is known.
    """

    def __init__(self, message: str = "", *, requested_bytes: int | None = None) -> None:
        super().__init__(message)
        self.requested_bytes = requested_bytes


class NetworkError(HardenError):
    """A peer could not be reached, or went away, and retrying did not help.

    Attributes:
        attempts: how often the call was made, where it is known.
    """

    def __init__(self, message: str = "", *, attempts: int | None = None) -> None:
        super().__init__(message)
        self.attempts = attempts


class ValidationError(HardenError):
    """A setting has a value that cannot work.

    Attributes:
        setting: name of the setting (an environment variable, flag or path).
        value: the value that was refused.
        fix: what to do about it, as a sentence.
    """

    def __init__(
        self, message: str = "", *, setting: str | None = None, value: Any = None, fix: str = ""
    ) -> None:
        super().__init__(message)
        self.setting = setting
        self.value = value
        self.fix = fix


class DependencyError(HardenError):
    """A package is missing, or too old.

    Attributes:
        module: import name of the package.
        installed: the version found, if any.
        required: the lowest version that works, if one was asked for.
    """

    def __init__(
        self,
        message: str = "",
        *,
        module: str | None = None,
        installed: str | None = None,
        required: str | None = None,
    ) -> None:
        super().__init__(message)
        self.module = module
        self.installed = installed
        self.required = required


class UnsupportedUpstreamError(HardenError):
    """The installed mlx_lm is not one that harden.mlx knows how to subclass.

    Attributes:
        version: the version found.
        missing: names of the upstream attributes that were not there, if that is the reason.
    """

    def __init__(
        self, message: str = "", *, version: str = "", missing: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message)
        self.version = version
        self.missing = missing


class ServerStartError(HardenError):
    """A server that we started ended, or was not ready in time.

    Attributes:
        exit_code: its exit code (negative: the signal that ended it); None while it lives.
        log_tail: the last lines that it wrote.
    """

    def __init__(
        self, message: str = "", *, exit_code: int | None = None, log_tail: str = ""
    ) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.log_tail = log_tail
