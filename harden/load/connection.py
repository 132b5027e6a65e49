"""HTTP connections to the server under test, straight and without the environment's proxies."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from harden.exceptions import ValidationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["bearer_headers", "check_url", "open_connection", "path_of"]


def check_url(url: str) -> str:
    """Return the URL without its trailing slashes.

    Args:
        url: base URL of a server.

    Raises:
        ValidationError: it is not an http or https URL with a host.
    """
    fix = "give one like http://127.0.0.1:8080"
    try:
        parts = urlsplit(url)
        known = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known:
        raise ValidationError(f"{url!r} is not a server's URL; {fix}", value=url, fix=fix)
    return url.rstrip("/")


def open_connection(url: str, timeout_s: float) -> http.client.HTTPConnection:
    """Return a connection to the URL's host, not yet connected.

    Args:
        url: base URL of a server, as ``check_url`` returns it.
        timeout_s: longest wait for any one read or write.
    """
    parts = urlsplit(url)
    https = parts.scheme == "https"
    kind = http.client.HTTPSConnection if https else http.client.HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=timeout_s)


def path_of(url: str, path: str) -> str:
    """Return the request path for ``path`` below a base URL that may have a path itself."""
    return urlsplit(url).path.rstrip("/") + path


def bearer_headers(key: str | None) -> Mapping[str, str]:
    """Return the Authorization header for a key; nothing without one."""
    return {"Authorization": f"Bearer {key}"} if key else {}
