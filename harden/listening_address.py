"""Whether a server can listen on an address, and who could then reach it."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from dataclasses import dataclass

from harden.model_path import shown

__all__ = ["BindProblem", "bind_problem", "is_loopback"]


@dataclass(frozen=True)
class BindProblem:
    """Why an address cannot be listened on.

    Attributes:
        what: what is wrong, with the address.
        fix: what to do about it, as a sentence.
        about_the_port: the port is the reason, not the host.
    """

    what: str
    fix: str
    about_the_port: bool


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach a server on a host name or address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")


def bind_problem(host: str, port: int) -> BindProblem | None:
    """Try to bind an address, and let go of it at once.

    Args:
        host: name or address; empty for all interfaces.
        port: TCP port; 0 for any free one.
    """
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError):
        return BindProblem(
            f"{shown(host)} is no address of this machine",
            "Use 127.0.0.1, or 0.0.0.0 for every interface.",
            about_the_port=False,
        )
    family, kind, protocol, _, address = found[0]
    with socket.socket(family, kind, protocol) as listener:
        if os.name == "posix":
            # As servers do: a port in TIME_WAIT is free.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            return _explain(error, host, port)
    return None


def _explain(error: OSError, host: str, port: int) -> BindProblem:
    if error.errno == errno.EADDRINUSE:
        return BindProblem(
            f"{port} is in use by another program",
            "Stop that program, or choose another port (0 takes a free one).",
            about_the_port=True,
        )
    if error.errno in {errno.EACCES, errno.EPERM}:
        return BindProblem(
            f"{port} may be listened on by an administrator only",
            "Choose a port from 1024 on.",
            about_the_port=True,
        )
    return BindProblem(
        f"{shown(host)} cannot be listened on: {error.strerror}",
        "Use 127.0.0.1, or 0.0.0.0 for every interface.",
        about_the_port=False,
    )
