"""``harden check``: every problem of a configuration with its fix, before anything is started."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TextIO

from harden.preflight import Problem, find_problems
from harden.settings import add_arguments, readable_environment

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

__all__ = ["preflight", "register", "report_problems", "run"]

_BUILT_IN_MODELS = ("tiny", "tiny-sliding")


def register(subparsers: Any) -> None:
    """Add the command to the parser of ``harden``."""
    parser = subparsers.add_parser(
        "check",
        help="look for everything that would make serve fail",
        description="Check the flags and the environment that serve would be given; "
        "print every problem with its fix. Exit code 0: ready to serve, 1: not.",
    )
    parser.add_argument("--json", action="store_true", help="print the problems as JSON")
    # What does not parse is reported with the rest, not as the first and only error.
    add_arguments(parser, readable_environment(os.environ))
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the problems; 1 if one of them is an error."""
    problems = find_problems(arguments, os.environ, built_in_models=_BUILT_IN_MODELS)
    errors = [problem for problem in problems if problem.severity == "error"]
    if arguments.json:
        answer = {"valid": not errors, "problems": [asdict(problem) for problem in problems]}
        print(json.dumps(answer, indent=2))
    else:
        report_problems(problems, sys.stdout)
        print(_verdict(len(errors)))
    return 1 if errors else 0


def preflight(arguments: argparse.Namespace, environment: Mapping[str, str]) -> list[Problem]:
    """List what keeps ``serve`` from working; warnings are left to ``harden check``."""
    problems = find_problems(arguments, environment, built_in_models=_BUILT_IN_MODELS)
    return [problem for problem in problems if problem.severity == "error"]


def report_problems(problems: Sequence[Problem], stream: TextIO | None = None) -> None:
    """Print problems: a table on a terminal, else one line each.

    Args:
        problems: what was found.
        stream: where to; standard error if None.
    """
    stream = sys.stderr if stream is None else stream
    if problems and stream.isatty() and _print_table(problems, stream):
        return
    for problem in problems:
        line = f"{problem.severity}: {problem.setting}: {problem.what}. {problem.fix}"
        print(line, file=stream)


def _print_table(problems: Sequence[Problem], stream: TextIO) -> bool:
    try:
        from rich.console import Console  # noqa: PLC0415 - an extra
        from rich.markup import escape  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415
    except ImportError:
        return False
    table = Table("", "setting", "problem", "what to do", show_lines=True)
    for problem in problems:
        style = "red" if problem.severity == "error" else "yellow"
        cells = (problem.setting, problem.what, problem.fix)
        table.add_row(f"[{style}]{problem.severity}[/]", *map(escape, cells))
    Console(file=stream).print(table)
    return True


def _verdict(errors: int) -> str:
    if not errors:
        return "Ready to serve: run harden serve with the same flags."
    return f"Not ready to serve: {errors} problem{'s' * (errors > 1)} to solve first."
