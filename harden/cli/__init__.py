"""The command ``harden``: one module a subcommand, each with ``register`` and ``run``."""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import TYPE_CHECKING

from harden import __version__
from harden.exceptions import HardenError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_COMMANDS = ("serve", "check", "stress")
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the command line without the program's name; None reads ``sys.argv``.

    Returns:
        The exit code; usage errors leave by ``SystemExit(2)``, as argparse does.
    """
    parser = argparse.ArgumentParser(
        prog="harden", description="Makes an MLX language-model server survive, and proves it."
    )
    parser.add_argument("--version", action="version", version=f"harden {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in _COMMANDS:
        importlib.import_module(f"harden.cli.{name}").register(subparsers)
    namespace = parser.parse_args(arguments)
    try:
        return int(namespace.run(namespace))
    except HardenError as error:
        print(f"harden: {error}", file=sys.stderr)
        return 1
    except ImportError as error:
        print(f"harden: {_missing(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED


def _missing(error: ImportError) -> str:
    return f"{error.name or error} is not installed; run: pip install 'mlx-harden[server,load]'"
