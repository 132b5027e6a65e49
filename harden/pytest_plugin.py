"""The pytest plugin: ``pytest -p harden``, or by itself where mlx-harden is installed.

It imports neither mlx nor a web framework; what a fixture needs is loaded when it is used.
"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harden.server_handle import ServerHandle

__all__ = ["make_mlx_server", "mlx_server", "pytest_addoption"]


@dataclass(frozen=True)
class _Option:
    """A command-line option and its ini twin, ``--harden-x`` and ``harden_x``."""

    name: str
    help: str

    @property
    def flag(self) -> str:
        return f"--harden-{self.name}"

    @property
    def ini(self) -> str:
        return f"harden_{self.name}"


_URL = _Option("url", "test this running server instead of starting one")
_CMD = _Option("cmd", "start this server, a command with {port} in it, instead of harden serve")
_MODEL = _Option("model", "model of the servers that are started (default: tiny)")
_OPTIONS = (_URL, _CMD, _MODEL)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, each with its ini twin."""
    group = parser.getgroup("harden", "hardened MLX servers (mlx-harden)")
    for option in _OPTIONS:
        group.addoption(option.flag, default=None, metavar=option.name.upper(), help=option.help)
        parser.addini(option.ini, option.help, default="")


def _value(config: pytest.Config, option: _Option) -> str:
    given = config.getoption(option.flag)
    return str(given if given is not None else config.getini(option.ini))


@pytest.fixture(scope="session")
def _mlx_server_of_session(pytestconfig: pytest.Config) -> Iterator[ServerHandle]:
    from harden.server_handle import ServerHandle  # noqa: PLC0415 - the plugin must load fast
    from harden.server_process import ServerProcess  # noqa: PLC0415 - as above

    if url := _value(pytestconfig, _URL):
        yield ServerHandle(url)
        return
    if command := _value(pytestconfig, _CMD):
        with ServerProcess(shlex.split(command), ready_path="/v1/models") as process:
            yield ServerHandle(process.url, process)
        return
    with ServerProcess(_serve_command(pytestconfig), announces_port=True) as process:
        yield ServerHandle(process.url, process)


def _serve_command(config: pytest.Config, *flags: str) -> list[str]:
    model = _value(config, _MODEL) or "tiny"
    return [sys.executable, "-m", "harden", "serve", "--port", "0", "--model", model, *flags]


@pytest.fixture
def mlx_server(_mlx_server_of_session: ServerHandle) -> ServerHandle:
    """A running server, shared by the tests of the session: ``.url``, ``.chat()``, ``.metrics()``.

    It is ``harden serve`` on the tiny model, unless --harden-url or --harden-cmd names another.
    Under pytest-xdist each worker has a server of its own, on a port of its own.
    """
    return _mlx_server_of_session


@pytest.fixture
def make_mlx_server(pytestconfig: pytest.Config) -> Iterator[Callable[..., ServerHandle]]:
    """Start further servers: ``make_mlx_server("--max-running", "1", HARDEN_API_KEY="k")``.

    Flags are those of ``harden serve``, keywords are environment variables. Every server that a
    test starts is stopped at its end.
    """
    from contextlib import ExitStack  # noqa: PLC0415 - beside the two below

    from harden.server_handle import ServerHandle  # noqa: PLC0415 - the plugin must load fast
    from harden.server_process import ServerProcess  # noqa: PLC0415 - as above

    with ExitStack() as servers:

        def make(*flags: str, **environment: str) -> ServerHandle:
            command = _serve_command(pytestconfig, *(os.fspath(flag) for flag in flags))
            server = ServerProcess(command, environment=environment, announces_port=True)
            process = servers.enter_context(server)
            return ServerHandle(process.url, process)

        yield make
