"""An HTTP server on a unix socket, in the shape that mlx_lm.server expects of a server class."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from harden.mlx.install import HTTPServer

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["unix_server_class"]


def unix_server_class(path: Path) -> type[HTTPServer]:
    """A server class that listens on ``path``, whatever host and port it is given.

    Upstream sets ``address_family`` on the class from a host name; so the TCP socket that the
    base class makes is exchanged at binding time.
    """

    class UnixHTTPServer(HTTPServer):
        def server_bind(self) -> None:
            self.socket.close()
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            path.unlink(missing_ok=True)
            self.socket.bind(str(path))
            path.chmod(0o600)
            self.server_address = ("unix", 0)
            self.server_name, self.server_port = "worker", 0

    return UnixHTTPServer
