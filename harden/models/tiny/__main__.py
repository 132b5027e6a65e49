"""`python -m harden.models.tiny`: build the tiny model if needed and print its folder."""

from __future__ import annotations

import argparse
import sys

from harden.exceptions import HardenError
from harden.models.tiny.build import tiny_model_path
from harden.models.tiny.recipe import RECIPES

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Print the folder on stdout, progress and errors on stderr; 0 or 1."""
    parser = argparse.ArgumentParser(prog="python -m harden.models.tiny", description=__doc__)
    parser.add_argument("--variant", choices=sorted(RECIPES), default="plain")
    variant = parser.parse_args(arguments).variant
    try:
        folder = tiny_model_path(variant, progress=lambda line: print(line, file=sys.stderr))  # noqa: T201 - a command
    except HardenError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command
        return 1
    print(folder)  # noqa: T201 - a command
    return 0


if __name__ == "__main__":
    sys.exit(main())
