"""``harden stress``: load on a server, and a verdict from the server's own metrics."""

from __future__ import annotations

import importlib.util
import json
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harden.exceptions import DependencyError, ServerStartError, ValidationError
from harden.load.connection import check_url
from harden.load.locust_process import python_path, run_locust
from harden.load.metrics_client import MetricsClient, ServerMetricsError
from harden.load.plan import (
    DEFAULT_SCENARIOS,
    DEFAULT_SIZES,
    SCENARIOS,
    SIZE_OPTIONS,
    Sizes,
    parse_scenarios,
    size_flag,
)
from harden.load.verdict import Verdict
from harden.server_process import ServerProcess

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from harden.cli.stress_display import Display
    from harden.load.report import Report

__all__ = ["register", "run"]

_USAGE_ERROR = 2
_TERMINATED = 128 + signal.SIGTERM


def register(subparsers: Any) -> None:
    """Add the command to the parser of ``harden``."""
    parser = subparsers.add_parser(
        "stress",
        help="put load on a server and judge it by its own metrics",
        description="Put load on a server and judge it by its own metrics. Without --url, one is"
        " started on a free port for the purpose. Exit code: 0 PASS, 1 FAIL, 2 usage,"
        " 3 INCONCLUSIVE (too little data), 4 INVALID (the measurement cannot be trusted).",
    )
    parser.add_argument("--url", help="server to test; it needs /v1/metrics")
    parser.add_argument(
        "--scenario",
        default=DEFAULT_SCENARIOS,
        help=f"comma list of {', '.join(SCENARIOS)} (default: %(default)s)",
    )
    parser.add_argument(
        "--model", default="tiny", help="model of the server started here (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there, too")
    for name, text in SIZE_OPTIONS.items():
        default = getattr(DEFAULT_SIZES, name)
        help_text = f"{text} (default: %(default)s)"
        parser.add_argument(size_flag(name), type=type(default), default=default, help=help_text)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the scenarios and print their verdict.

    Returns:
        The exit code of the verdict, or 2 for arguments that make no sense.

    Raises:
        DependencyError: Locust or rich is not installed.
    """
    try:
        parse_scenarios(arguments.scenario, Sizes.of(arguments))
        url = check_url(arguments.url) if arguments.url else None
    except ValidationError as error:
        print(f"harden stress: {error}", file=sys.stderr)
        return _USAGE_ERROR
    _require("locust", "rich")
    from harden.cli.stress_display import Display  # noqa: PLC0415 - needs rich

    display = Display()
    try:
        with _terminated_cleanly(), _server(url, arguments.model, display) as address:
            report = _stress(address, arguments, display)
    except (ServerMetricsError, ServerStartError) as error:
        if isinstance(error, ServerStartError) and "\n" in error.log_tail:
            print(error.log_tail, file=sys.stderr)
        print(f"harden stress: {Verdict.INVALID.value}: {error}", file=sys.stderr)
        return Verdict.INVALID.exit_code
    if report is None:
        return Verdict.INVALID.exit_code
    if arguments.json:
        arguments.json.write_text(json.dumps(report.to_dict(), indent=2) + "\n")
    display.verdict(report)
    return report.verdict.exit_code


def _stress(url: str, arguments: argparse.Namespace, display: Display) -> Report | None:
    MetricsClient(url).scrape()
    options = ["--scenario", arguments.scenario, *Sizes.of(arguments).arguments()]
    with display.progress() as observe:
        outcome = run_locust(url, options, observe)
    if outcome.report is None:
        print(outcome.log_tail, file=sys.stderr)
        print(
            f"harden stress: {Verdict.INVALID.value}: Locust ended with exit code "
            f"{outcome.exit_code} and no verdict; its last lines are above",
            file=sys.stderr,
        )
    return outcome.report


@contextmanager
def _server(url: str | None, model: str, display: Display) -> Iterator[str]:
    """Give the address of the server under test, and start it where none was named."""
    if url is not None:
        yield url
        return
    command = [sys.executable, "-m", "harden", "serve", "--model", model, "--port", "0"]
    process = ServerProcess(command, environment={"PYTHONPATH": python_path()})
    try:
        with display.waiting(f"Starting harden serve --model {model}"):
            process.start()
        display.line(f"Serving {model} at {process.url}")
        yield process.url
    finally:
        process.close()


@contextmanager
def _terminated_cleanly() -> Iterator[None]:
    """Let SIGTERM unwind the stack, so that the processes that we started end with us."""

    def end(_number: int, _frame: object) -> None:
        raise SystemExit(_TERMINATED)

    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _require(*modules: str) -> None:
    for module in modules:
        if importlib.util.find_spec(module) is None:
            message = f"{module} is not installed; run: pip install 'mlx-harden[load]'"
            raise DependencyError(message, module=module)
