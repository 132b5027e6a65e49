"""Runs loadtests/stress.py under Locust in a process of its own, and brings its report back."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harden.load.hand_over import PROGRESS_VARIABLE, VERDICT_VARIABLE, ProgressReader, read_report
from harden.process_family import ProcessFamily

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harden.load.hand_over import Progress
    from harden.load.report import Report

__all__ = ["LocustOutcome", "locust_file", "python_path", "run_locust"]

_POLL_INTERVAL_S = 0.2
_STOP_TIMEOUT_S = 20.0
_PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class LocustOutcome:
    """How Locust ended.

    Attributes:
        exit_code: its exit code.
        report: its report; None if it did not come to one.
        log_tail: the last lines that it wrote.
    """

    exit_code: int
    report: Report | None
    log_tail: str


def locust_file() -> Path:
    """Return the path of stress.py: inside the installed package, else in the checkout."""
    installed = _PACKAGE / "loadtests" / "stress.py"
    return installed if installed.exists() else _PACKAGE.parent / "loadtests" / "stress.py"


def python_path() -> str:
    """Return a PYTHONPATH by which a child process finds this very harden."""
    return os.pathsep.join(filter(None, [str(_PACKAGE.parent), os.environ.get("PYTHONPATH")]))


def run_locust(
    url: str, arguments: Sequence[str], observe: Callable[[Progress], None]
) -> LocustOutcome:
    """Run the scenarios headless and wait for their end.

    Args:
        url: base URL of the server.
        arguments: options of stress.py.
        observe: told from time to time how far the run is.

    Returns:
        How it ended; after an exception in ``observe`` or Ctrl-C nothing is left running.
    """
    with tempfile.TemporaryDirectory(prefix="harden-stress-") as folder:
        progress, verdict = Path(folder, "progress"), Path(folder, "verdict.json")
        log = Path(folder, "locust.log")
        command = [sys.executable, "-m", "locust", "-f", str(locust_file()), "--headless"]
        command += ["--only-summary", "--host", url, *arguments]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LOCUST_")}
        environment |= {PROGRESS_VARIABLE: str(progress), VERDICT_VARIABLE: str(verdict)}
        environment["PYTHONPATH"] = python_path()
        reader = ProgressReader(progress)
        with _process(command, environment, folder, log) as locust:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    exit_code = locust.wait(_POLL_INTERVAL_S)
                    break
                news = reader.latest()
                if news:
                    observe(news)
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        return LocustOutcome(exit_code, read_report(verdict), tail)


@contextlib.contextmanager
def _process(
    command: Sequence[str], environment: dict[str, str], folder: str, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process in a session and a folder of its own; end it however the block ends.

    The folder keeps Locust from reading a locust.conf that lies around.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )
    family = ProcessFamily(process.pid)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_TIMEOUT_S)
        process.kill()
        process.wait()
        family.kill(_STOP_TIMEOUT_S)
