"""A worker without its gateway serves nobody: it ends."""

from __future__ import annotations

import os
import sys

__all__ = ["end_with_gateway"]


def end_with_gateway() -> None:
    """Wait until standard input closes, which the gateway holds open for its life, then exit.

    A kill -9 of the gateway closes it too. ``os._exit``: threads inside MLX cannot be joined.
    """
    descriptor = sys.stdin.fileno()
    while os.read(descriptor, 1):
        pass
    os._exit(0)
