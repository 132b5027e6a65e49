"""Bearer tokens (RFC 6750, section 2.1) against the key that a server asks for."""

from __future__ import annotations

import hmac

__all__ = ["bearer_matches"]


def bearer_matches(authorization: str | None, key: str) -> bool:
    """Return whether an Authorization header carries the key as its bearer token.

    The comparison takes the same time wherever the two differ. Servers decode headers as UTF-8
    or as Latin-1, so both readings of the header's bytes are tried.

    Args:
        authorization: the header's value, decoded in either way; any text is safe.
        key: the key, not blank.
    """
    scheme, _, token = (authorization or "").partition(" ")
    wanted = key.encode("utf-8", "surrogateescape")
    matches = [hmac.compare_digest(reading, wanted) for reading in _readings(token.strip(" "))]
    return scheme.lower() == "bearer" and any(matches)


def _readings(token: str) -> list[bytes]:
    """Return the bytes that a decoded header may have had on the wire."""
    readings = []
    for encoding, errors in (("utf-8", "surrogateescape"), ("latin-1", "strict")):
        try:
            readings.append(token.encode(encoding, errors))
        except UnicodeEncodeError:
            continue
    return readings
