"""A worker without its gateway serves nobody: it ends."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["end_with_gateway"]


def end_with_gateway(socket_path: Path) -> None:
    """Wait until standard input closes, which the gateway holds open for its life, then exit.

    A kill -9 of the gateway closes it too; the socket and its folder, which the gateway would
    have removed, go with us. ``os._exit``: threads inside MLX cannot be joined.
    """
    descriptor = sys.stdin.fileno()
    while os.read(descriptor, 1):
        pass
    with contextlib.suppress(OSError):
        socket_path.unlink(missing_ok=True)
        socket_path.parent.rmdir()
    os._exit(0)
