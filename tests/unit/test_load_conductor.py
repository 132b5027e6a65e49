"""harden.load.conductor: a whole run against a server and users made of a few lines."""

from __future__ import annotations

import dataclasses
import threading
import unittest
from collections.abc import Callable

from harden.load.conductor import Conductor, Patience
from harden.load.hand_over import Progress
from harden.load.metrics_client import ServerMetricsError, ServerSnapshot
from harden.load.plan import Release, Sizes, parse_scenarios
from harden.load.records import Outcome, RequestRecord
from harden.load.report import Report
from harden.load.verdict import Verdict

SIZES = Sizes(warm_up=2, requests=30, rounds=2, max_tokens=4)
SHORT = Patience(users_s=0.05, answer_s=0.05, settle_s=1.0, scrape_interval_s=0.01)


class FakeServer:
    """Counts what users send, and shows it, until it is told to misbehave."""

    def __init__(self) -> None:
        self.served = 0
        self.readings = 0
        self.on_reading: Callable[[int], None] = lambda _number: None

    def scrape(self) -> ServerSnapshot:
        self.readings += 1
        self.on_reading(self.readings)
        return ServerSnapshot(
            uptime_s=float(self.readings),
            received=self.served,
            finished=self.served,
            in_flight=0,
            succeeded={"length": self.served},
            failed={},
            prompt_tokens=self.served,
            generation_tokens=self.served * 2,
            requests_with_usage=self.served,
            memory_mb={"gateway": 10.0},
            mlx_active_mb=None,
            worker_starts=1,
        )

    def settle(self, timeout_s: float) -> ServerSnapshot:
        return self.scrape()


class Run(unittest.TestCase):
    def setUp(self) -> None:
        self.server = FakeServer()
        self.releases: list[Release] = []
        self.progress: list[Progress] = []
        self.answers_missing = 0

    def conduct(
        self,
        scenarios: str = "",
        *,
        patience: Patience | None = None,
        users: Callable[[Conductor], None] | None = None,
    ) -> Report:
        self.conductor = Conductor(
            parse_scenarios(scenarios, SIZES),
            self.server,
            self.release,
            url="http://fake",
            seed=3,
            observe=self.progress.append,
            patience=patience or Patience(scrape_interval_s=0.01),
        )
        (users or self.ten_users_when_wanted)(self.conductor)
        return self.conductor.run()

    def ten_users_when_wanted(self, conductor: Conductor) -> None:
        """Ten users stand by, of whom the sequential scenario sees one."""
        conductor.state.add_user("0")
        wanted = conductor.users_wanted

        def supply() -> None:
            for number in range(1, 10):
                conductor.state.add_user(str(number))

        if wanted > 1:
            supply()
        else:
            self.when_scenario_changes = supply

    def release(self, release: Release) -> None:
        """Every user does its round at once."""
        self.releases.append(release)
        users = self.conductor.users_wanted
        for _ in range(users * release.requests - self.answers_missing):
            self.server.served += 1
            self.conductor.state.add_record(record(release))


def record(release: Release) -> RequestRecord:
    return RequestRecord(
        scenario=release.scenario,
        stage=release.stage,
        streamed=release.streamed,
        intended_s=0.0,
        started_s=0.0,
        sent_s=0.0,
        end_s=1.0,
        outcome=Outcome.SUCCEEDED,
        status=200,
        finish_reason="length",
        prompt_tokens=1,
        completion_tokens=2,
    )


class TestGoodRun(Run):
    def test_sequential(self):
        """Warm-up, rest, measured requests, rest; then all targets hold."""
        report = self.conduct("sequential")
        self.assertIs(report.verdict, Verdict.PASS, report.closing_line())
        self.assertEqual([r.stage for r in self.releases], ["warm-up", "measured"])
        self.assertEqual(report.figures["sequential"]["requests"], 30)
        self.assertEqual(report.seed, 3)

    def test_concurrent(self):
        """All users are there before the first round, and each round is released once."""
        report = self.conduct("concurrent")
        self.assertIs(report.verdict, Verdict.PASS, report.closing_line())
        self.assertEqual(len(self.releases), 1 + SIZES.rounds)

    def test_scenarios_follow_each_other(self):
        """The second starts when its users have come; its ledger starts at the first one's end."""
        settle = self.server.settle

        def settle_and_supply(timeout_s: float) -> ServerSnapshot:
            if self.conductor.users_wanted > 1:
                self.when_scenario_changes()
            return settle(timeout_s)

        self.server.settle = settle_and_supply
        report = self.conduct()
        self.assertIs(report.verdict, Verdict.PASS, report.closing_line())
        self.assertEqual(set(report.figures), {"sequential", "concurrent"})

    def test_progress(self):
        """Each answer is told, warm-up included, up to the total."""
        self.conduct("sequential")
        self.assertEqual(len(self.progress), 32)
        self.assertEqual(self.progress[-1], Progress("sequential", 32, 32, 0))


class TestBadRun(Run):
    def assert_ends(self, report: Report, verdict: Verdict, words: str) -> None:
        self.assertIs(report.verdict, verdict)
        self.assertRegex(report.closing_line(), words)

    def test_metrics_that_stop(self):
        """Whether before, while or after the load: without metrics the run is INVALID."""
        for good_readings in range(3):
            self.setUp()

            def stop(number: int, limit: int = good_readings) -> None:
                if number > limit:
                    raise ServerMetricsError("metrics answered 503")

            self.server.on_reading = stop
            self.assert_ends(self.conduct("sequential"), Verdict.INVALID, "answered 503")

    def test_metrics_are_watched_during_a_round(self):
        """A long round does not hide that the metrics have gone."""

        def stop(number: int) -> None:
            if number > 4:
                raise ServerMetricsError("metrics answered 503")

        self.server.on_reading = stop
        self.answers_missing = 1
        self.assert_ends(self.conduct("sequential"), Verdict.INVALID, "answered 503")

    def test_foreign_request(self):
        """A request that we did not send makes the run INVALID."""

        def intrude(number: int) -> None:
            self.server.served += number == 3

        self.server.on_reading = intrude
        report = self.conduct("sequential")
        self.assert_ends(report, Verdict.INVALID, "1 of someone else's requests")

    def test_restart(self):
        """Counters that go back are a server that was started anew."""

        def restart(number: int) -> None:
            if number == 3:
                self.server.served = 0

        self.server.on_reading = restart
        self.assert_ends(self.conduct("sequential"), Verdict.INVALID, "restarted.*received")

    def test_missing_users(self):
        """Without its users a scenario cannot start."""
        report = self.conduct("concurrent", patience=SHORT, users=lambda _conductor: None)
        self.assert_ends(report, Verdict.INVALID, "users: 0 after")

    def test_missing_answer(self):
        """A record that never comes is lost data."""
        self.answers_missing = 1
        report = self.conduct("sequential", patience=SHORT)
        self.assert_ends(report, Verdict.INVALID, "1 requests unanswered")

    def test_early_stop(self):
        """A stopped run is INCONCLUSIVE, and a scenario that was finished keeps its rows."""
        self.answers_missing = 1
        threading.Timer(0.05, lambda: self.conductor.stop("stopped")).start()
        self.assert_ends(self.conduct("sequential"), Verdict.INCONCLUSIVE, "stopped")

    def test_broken_load_generator(self):
        """An error of ours is INVALID; a stop after it does not soften that."""

        def break_down(_conductor: Conductor) -> None:
            self.conductor.fail("TypeError: x")
            self.conductor.stop("stopped")

        report = self.conduct("sequential", users=break_down)
        self.assert_ends(report, Verdict.INVALID, "TypeError: x")

    def test_users_may_leave(self):
        """A user that has gone is not waited for as if it were there."""

        def come_and_go(conductor: Conductor) -> None:
            conductor.state.add_user("0")
            conductor.state.remove_user("0")

        report = self.conduct("sequential", patience=SHORT, users=come_and_go)
        self.assert_ends(report, Verdict.INVALID, "users: 0")


class TestEvidence(Run):
    def test_failures_are_figures_not_the_end(self):
        """Requests that fail are judged at the end, with everything else."""
        whole = self.release

        def refuse_one(release: Release) -> None:
            self.answers_missing = 1
            whole(release)
            self.answers_missing = 0
            self.server.served += 1
            failure = dataclasses.replace(
                record(release), outcome=Outcome.BROKEN, finish_reason=None, error="no"
            )
            self.conductor.state.add_record(failure)

        self.release = refuse_one
        report = self.conduct("concurrent")
        self.assertIs(report.verdict, Verdict.FAIL, report.closing_line())
        self.assertIn("18 of 20", report.closing_line())
        self.assertEqual(self.progress[-1].failed, 3)


if __name__ == "__main__":
    unittest.main()
