"""Bearer tokens."""

from __future__ import annotations

from harden.bearer import bearer_matches
from harden.gateway.refusal import Refusal

__all__ = ["require_key"]


def require_key(authorization: str | None, key: str | None) -> None:
    """Compare a request's Authorization header with the key, in constant time.

    Args:
        authorization: the header as it came, or None.
        key: the token that is wanted; None lets everyone in.

    Raises:
        Refusal: 401.
    """
    if key is None:
        return
    if not bearer_matches(authorization or "", key):
        raise Refusal(
            401,
            "This server wants a key: send 'Authorization: Bearer <key>'.",
            code="invalid_api_key",
        )
