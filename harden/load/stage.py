"""Where runs take place under Locust: one at a time, in the local or the master process.

Nothing of Locust is imported: its environment is used as it is handed over.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harden.exceptions import HardenError
from harden.load.conductor import Conductor
from harden.load.hand_over import (
    PROGRESS_VARIABLE,
    VERDICT_VARIABLE,
    write_progress,
    write_report,
)
from harden.load.metrics_client import MetricsClient
from harden.load.plan import Release, Scenario, Sizes, parse_scenarios
from harden.load.records import RequestRecord
from harden.load.report import TABLE_HEADINGS, Report, table_rows, text_table
from harden.load.verdict import GateResult, Verdict

if TYPE_CHECKING:
    from harden.load.hand_over import Progress

__all__ = ["DEFAULT_HOST", "USAGE_ERROR", "Stage", "chosen_scenarios", "target_url"]

DEFAULT_HOST = "http://127.0.0.1:8080"
USAGE_ERROR = 2

_logger = logging.getLogger("harden.stress")


class Stage:
    """Where runs take place: one at a time, in the local or the master process."""

    def __init__(self, environment: Any) -> None:
        """Nothing runs yet, and nothing is no pass."""
        self._environment = environment
        self._conductor: Conductor | None = None
        self._run: threading.Thread | None = None
        self._progress: Progress | None = None
        self.report: Report | None = None
        environment.process_exit_code = Verdict.INCONCLUSIVE.exit_code

    def tick(self) -> tuple[int, float] | None:
        """Start a run, keep it supplied with users, and end the test after it."""
        if self._conductor is None:
            self._begin()
        if self._conductor is None or self._run is None or not self._run.is_alive():
            self._conductor = None
            return None
        return self._conductor.users_wanted, 100.0

    def rows(self) -> list[dict[str, str]]:
        """Return the rows of the web UI's tab: the verdict, or how far the run is."""
        if self.report:
            cells = [*table_rows(self.report.rows), ("", "all", "", "", self.report.verdict.value)]
        elif self._progress:
            done = f"{self._progress.done} of {self._progress.total} requests"
            cells = [(self._progress.scenario, "progress", "", done, "")]
        else:
            cells = [("", "nothing was run yet", "", "", "")]
        return [dict(zip(TABLE_HEADINGS, row, strict=True)) for row in cells]

    def on_user(self, environment: Any, msg: Any, **_: Any) -> None:
        """A user came or went."""
        del environment
        if self._conductor:
            state = self._conductor.state
            change = state.add_user if msg.data["waits"] else state.remove_user
            change(msg.data["name"])

    def on_record(self, environment: Any, msg: Any, **_: Any) -> None:
        """A request ended."""
        del environment
        if self._conductor:
            self._conductor.state.add_record(RequestRecord.from_dict(msg.data))

    def on_trouble(self, environment: Any, msg: Any, **_: Any) -> None:
        """A user broke."""
        del environment
        if self._conductor:
            self._conductor.fail(msg.data["text"])

    def on_test_stop(self, **_: Any) -> None:
        """Somebody stopped the test, or it is over."""
        if self._conductor:
            self._conductor.stop("stopped before its end")
            self._conductor = None

    def on_quitting(self, **_: Any) -> None:
        """Give a run that was just stopped the time to say what it amounts to."""
        if self._run:
            self._run.join(timeout=15)

    def _begin(self) -> None:
        self.report = self._progress = None
        environment = self._environment
        try:
            url, scenarios = target_url(environment), chosen_scenarios(environment)
            metrics = MetricsClient(url)
        except HardenError as error:
            _logger.error("%s", error)  # noqa: TRY400 - the form's fault, not ours
            environment.process_exit_code = USAGE_ERROR
            row = GateResult("", "settings", "possible", str(error), Verdict.INVALID)
            self.report = Report("", "", 0.0, 0, [row])
            return
        self._conductor = Conductor(
            scenarios,
            metrics,
            self._release,
            url=url,
            seed=secrets.randbits(32),
            observe=self._observe,
        )
        self._run = threading.Thread(target=self._finish, args=[self._conductor], daemon=True)
        self._run.start()

    def _finish(self, conductor: Conductor) -> None:
        self._environment.process_exit_code = Verdict.INVALID.exit_code
        report = conductor.run()
        if self._run is not threading.current_thread():
            return  # stopped, and the next run has begun
        self.report = report
        self._environment.process_exit_code = report.verdict.exit_code
        _logger.info(
            "Verdict of %s\n%s\n%s", report.url, text_table(report.rows), report.closing_line()
        )
        path = os.environ.get(VERDICT_VARIABLE)
        if path:
            write_report(Path(path), report)

    def _release(self, release: Release) -> None:
        if self._environment.runner is not None:
            self._environment.runner.send_message("harden_release", release.to_dict())

    def _observe(self, progress: Progress) -> None:
        self._progress = progress
        path = os.environ.get(PROGRESS_VARIABLE)
        if path:
            write_progress(Path(path), progress)


def target_url(environment: Any) -> str:
    """The server under test, as Locust was told."""
    return str(environment.host or DEFAULT_HOST)


def chosen_scenarios(environment: Any) -> tuple[Scenario, ...]:
    """The scenarios that Locust's options name, in their sizes.

    Raises:
        ValidationError: an unknown name, or a size that leaves nothing to do.
    """
    options = environment.parsed_options
    return parse_scenarios(options.scenario, Sizes.of(options))
