"""Files by which the Locust process tells its parent how far it is and how it ended."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from harden.load.report import Report

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "PROGRESS_VARIABLE",
    "VERDICT_VARIABLE",
    "Progress",
    "ProgressReader",
    "read_report",
    "write_progress",
    "write_report",
]

PROGRESS_VARIABLE = "HARDEN_STRESS_PROGRESS"
"""Environment variable that names the file to append progress to, a JSON object a line."""
VERDICT_VARIABLE = "HARDEN_STRESS_VERDICT"
"""Environment variable that names the file to write the report to."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a scenario is.

    Attributes:
        scenario: its name.
        done: requests answered, warm-up included.
        total: requests that it has in all.
        failed: requests that did not succeed.
    """

    scenario: str
    done: int
    total: int
    failed: int


class ProgressReader:
    """Reads what was appended to a progress file since the last look."""

    def __init__(self, path: Path) -> None:
        """Name the file; it need not exist yet."""
        self._path = path
        self._offset = 0

    def latest(self) -> Progress | None:
        """Return the newest whole entry that was not read before, or None."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                new = file.read()
        except FileNotFoundError:
            return None
        whole, newline, _rest = new.rpartition(b"\n")
        if not newline:
            return None
        self._offset += len(whole) + 1
        return Progress(**json.loads(whole.rpartition(b"\n")[2]))


def write_progress(path: Path, progress: Progress) -> None:
    """Append an entry to a progress file."""
    with path.open("a") as file:
        file.write(json.dumps(asdict(progress)) + "\n")


def write_report(path: Path, report: Report) -> None:
    """Write a report as JSON, so that a reader finds all of it or nothing."""
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(json.dumps(report.to_dict(), indent=2) + "\n")
    unfinished.replace(path)


def read_report(path: Path) -> Report | None:
    """Return the report that was written, or None if there is none."""
    try:
        return Report.from_dict(json.loads(path.read_text()))
    except FileNotFoundError:
        return None
