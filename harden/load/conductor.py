"""Conducts a run: releases the users round by round, collects records, watches the server.

Whoever drives it supplies the users: they say that they wait, do what a release asks for, and
hand in a record for each request, all by way of ``Conductor.state``. Under Locust the threading
primitives used here are gevent's.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from harden.load.hand_over import Progress
from harden.load.judge import Evidence, figures, judge
from harden.load.metrics_client import ServerMetricsError
from harden.load.plan import releases_of
from harden.load.report import Report
from harden.load.run_state import RunEndedError, RunState
from harden.load.verdict import GateResult, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harden.load.metrics_client import ServerSnapshot
    from harden.load.plan import Release, Scenario
    from harden.load.records import RequestRecord

__all__ = ["Conductor", "MetricsSource", "Patience"]


class MetricsSource(Protocol):
    """Where the server's own figures come from."""

    def scrape(self) -> ServerSnapshot:
        """Read them now."""

    def settle(self, timeout_s: float) -> ServerSnapshot:
        """Read them once nothing is in flight."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for what, in seconds.

    Attributes:
        users_s: for the users of a scenario to be there.
        answer_s: for the next answer, whichever.
        settle_s: for the server to come to rest.
        scrape_interval_s: between two readings of the metrics during a round.
    """

    users_s: float = 60.0
    answer_s: float = 330.0
    settle_s: float = 60.0
    scrape_interval_s: float = 1.0


class Conductor:
    """One run of some scenarios against one server.

    Attributes:
        state: where users announce themselves and hand in their records.
    """

    def __init__(
        self,
        scenarios: Sequence[Scenario],
        metrics: MetricsSource,
        release: Callable[[Release], None],
        *,
        url: str,
        seed: int,
        observe: Callable[[Progress], None] = lambda _progress: None,
        patience: Patience | None = None,
    ) -> None:
        """Prepare a run.

        Args:
            scenarios: what to run, in this order; at least one.
            metrics: the server's own figures.
            release: tells all waiting users to start a round.
            url: address of the server, for the report.
            seed: seed of the prompts.
            observe: told after each answer how far the run is.
            patience: how long to wait for what.
        """
        self._scenarios = tuple(scenarios)
        self._metrics = metrics
        self._release = release
        self._url = url
        self._seed = seed
        self._observe = observe
        self._patience = patience or Patience()
        self._scenario = self._scenarios[0]
        self._last: ServerSnapshot | None = None
        self.state = RunState(self._report_progress)

    @property
    def users_wanted(self) -> int:
        """How many users the scenario at hand needs."""
        return self._scenario.users

    def stop(self, reason: str) -> None:
        """End the run early; what was not measured is INCONCLUSIVE."""
        self.state.end(RunEndedError(Verdict.INCONCLUSIVE, "run", "complete", reason))

    def fail(self, reason: str) -> None:
        """End the run because the load generator itself broke; that is INVALID."""
        self.state.end(RunEndedError(Verdict.INVALID, "load generator", "works", reason))

    def run(self) -> Report:
        """Run all scenarios.

        Returns:
            What they amount to. Bad news is a row of it; the first that ends the run is the last.
        """
        started_at, start_s = datetime.now(UTC), time.monotonic()
        rows: list[GateResult] = []
        numbers = {}
        for scenario in self._scenarios:
            self._scenario = scenario
            try:
                evidence = self._conduct(scenario)
            except RunEndedError as end:
                rows.append(
                    GateResult(scenario.name, end.name, end.target, end.measured, end.verdict)
                )
                break
            rows.extend(judge(evidence))
            numbers[scenario.name] = figures(evidence.measured)
        return Report(
            url=self._url,
            started_at=started_at.isoformat(timespec="seconds"),
            duration_s=time.monotonic() - start_s,
            seed=self._seed,
            rows=tuple(rows),
            figures=numbers,
        )

    def _conduct(self, scenario: Scenario) -> Evidence:
        self.state.records = []
        warm_up, measured = releases_of(scenario, self._seed)
        before = self._settle()
        self._wait_for_users(scenario)
        warm_records = self._play(scenario, warm_up)
        warm = self._settle()
        measured_records = self._play(scenario, measured)
        after = self._settle()
        return Evidence(
            scenario=scenario.name,
            warm_up=warm_records,
            measured=measured_records,
            before=before,
            warm=warm,
            after=after,
        )

    def _wait_for_users(self, scenario: Scenario) -> None:
        state, limit_s = self.state, self._patience.users_s
        if not state.wait_until(lambda: state.users == scenario.users, limit_s):
            text = f"{state.users} after {limit_s:g} s"
            raise RunEndedError(Verdict.INVALID, "users", str(scenario.users), text)

    def _play(self, scenario: Scenario, releases: Sequence[Release]) -> list[RequestRecord]:
        start = len(self.state.records)
        for release in releases:
            due = len(self.state.records) + scenario.users * release.requests
            self._release(release)
            self._wait_for_records(due)
        return self.state.records[start:]

    def _wait_for_records(self, due: int) -> None:
        state, interval_s, quiet_s = self.state, self._patience.scrape_interval_s, 0.0
        seen = len(state.records)
        while not state.wait_until(lambda: len(state.records) >= due, interval_s):
            self._watch(self._read(self._metrics.scrape))
            quiet_s = quiet_s + interval_s if len(state.records) == seen else 0.0
            seen = len(state.records)
            if quiet_s >= self._patience.answer_s:
                text = f"{due - seen} requests unanswered after {quiet_s:g} s"
                raise RunEndedError(Verdict.INVALID, "records", "one a request", text)

    def _settle(self) -> ServerSnapshot:
        return self._watch(self._read(lambda: self._metrics.settle(self._patience.settle_s)))

    def _read(self, read: Callable[[], ServerSnapshot]) -> ServerSnapshot:
        try:
            return read()
        except ServerMetricsError as error:
            text = str(error)
            raise RunEndedError(Verdict.INVALID, "metrics", "readable", text) from error

    def _watch(self, snapshot: ServerSnapshot) -> ServerSnapshot:
        restart = snapshot.restart_since(self._last) if self._last else None
        if restart:
            text = f"the server was restarted during the run: {restart}"
            raise RunEndedError(Verdict.INVALID, "metrics", "only grow", text)
        self._last = snapshot
        return snapshot

    def _report_progress(self, records: Sequence[RequestRecord]) -> None:
        failed = sum(not record.succeeded for record in records)
        self._observe(Progress(self._scenario.name, len(records), self._scenario.total, failed))
