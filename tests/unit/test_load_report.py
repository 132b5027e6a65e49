"""harden.load.judge, report and hand_over: evidence to rows, rows to text, JSON and back."""

from __future__ import annotations

import dataclasses
import json
import tempfile
import unittest
from pathlib import Path

from harden.load.hand_over import (
    Progress,
    ProgressReader,
    read_report,
    write_progress,
    write_report,
)
from harden.load.judge import Evidence, figures, judge
from harden.load.metrics_client import ServerSnapshot
from harden.load.records import Outcome, RequestRecord
from harden.load.report import Report, text_table
from harden.load.verdict import GateResult, Verdict

AT_REST = ServerSnapshot(
    uptime_s=1.0,
    received=0,
    finished=0,
    in_flight=0,
    succeeded={},
    failed={},
    prompt_tokens=0,
    generation_tokens=0,
    requests_with_usage=0,
    memory_mb={"gateway": 10.0, "worker": 100.0},
    mlx_active_mb=5.0,
    worker_starts=1,
)


def records(count: int, *, failed: int = 0, stage: str = "measured") -> list[RequestRecord]:
    good = RequestRecord(
        scenario="sequential",
        stage=stage,
        streamed=True,
        intended_s=1.0,
        started_s=1.0,
        sent_s=1.0,
        end_s=2.0,
        outcome=Outcome.SUCCEEDED,
        status=200,
        first_token_s=1.1,
        last_token_s=1.9,
        finish_reason="length",
        prompt_tokens=10,
        completion_tokens=5,
    )
    bad = dataclasses.replace(
        good,
        outcome=Outcome.REFUSED,
        status=500,
        first_token_s=None,
        last_token_s=None,
        finish_reason=None,
        prompt_tokens=None,
        completion_tokens=None,
        error="500: no",
    )
    return [good] * (count - failed) + [bad] * failed


def evidence(scenario: str = "sequential", *, failed: int = 0, **changes) -> Evidence:
    warm = dataclasses.replace(AT_REST, received=10, finished=10, uptime_s=2.0)
    good = 110 - failed
    after = dataclasses.replace(
        AT_REST,
        uptime_s=3.0,
        received=110,
        finished=110,
        succeeded={"length": good},
        failed={"500": failed} if failed else {},
        prompt_tokens=10 * good,
        generation_tokens=5 * good,
        requests_with_usage=good,
        **changes,
    )
    return Evidence(
        scenario,
        records(10, stage="warm-up"),
        records(100, failed=failed),
        AT_REST,
        warm,
        after,
    )


def verdicts(rows: list[GateResult]) -> dict[str, str]:
    return {row.name: row.verdict.value for row in rows if row.target}


class TestJudge(unittest.TestCase):
    def test_sequential_targets(self):
        """All targets of the issue are judged, each in its own row."""
        self.assertEqual(
            verdicts(judge(evidence())),
            {
                "success": "PASS",
                "latency spread": "PASS",
                "gateway memory growth": "PASS",
                "worker memory growth": "PASS",
                "ledger": "PASS",
                "harness lag": "PASS",
            },
        )

    def test_concurrent_targets(self):
        """All have to complete: one failure of a hundred is a FAIL, and the ledger still agrees."""
        rows = verdicts(judge(evidence("concurrent", failed=1)))
        self.assertEqual(rows, {"complete": "FAIL", "ledger": "PASS", "harness lag": "PASS"})

    def test_a_tenth_failing_is_too_much_in_sequence(self):
        """90 of 100 are not more than 90%; the warm-up does not help."""
        self.assertEqual(verdicts(judge(evidence(failed=10)))["success"], "FAIL")
        self.assertEqual(verdicts(judge(evidence(failed=9)))["success"], "PASS")

    def test_growth_is_judged_from_the_warm_up_on(self):
        """The worker's memory at the end is compared with that after the warm-up."""
        rows = verdicts(judge(evidence(memory_mb={"gateway": 10.0, "worker": 121.0})))
        self.assertEqual(rows["worker memory growth"], "FAIL")

    def test_the_warm_up_counts_in_the_ledger(self):
        """A request of the warm-up that the server missed is a difference."""
        found = evidence()
        short = dataclasses.replace(found, warm_up=found.warm_up[:9])
        self.assertEqual(verdicts(judge(short))["ledger"], "INVALID")

    def test_figures(self):
        """Distributions over successes, with their counts; None where there is no sample."""
        found = figures(records(4, failed=1))
        self.assertEqual((found["requests"], found["succeeded"]), (4, 3))
        self.assertEqual(found["latency_ms"]["count"], 3)
        self.assertAlmostEqual(found["ttft_ms"]["p50"], 100)
        self.assertAlmostEqual(found["inter_token_ms"]["p95"], 200)
        self.assertAlmostEqual(found["tokens_per_second"], 15)
        nothing = figures([])
        self.assertIsNone(nothing["tokens_per_second"])
        self.assertEqual(nothing["ttft_ms"], {"count": 0, "p50": None, "p95": None, "p99": None})


ROWS = (
    GateResult("sequential", "success", "> 90%", "100%", Verdict.PASS),
    GateResult("sequential", "TTFT", "", "p50 3 ms", Verdict.INFORMATION),
    GateResult("concurrent", "complete", "all", "59 of 60", Verdict.FAIL),
)


def report(*rows: GateResult) -> Report:
    return Report("http://h", "2026-01-01T00:00:00+00:00", 1.5, 7, rows, {"sequential": {"a": 1}})


class TestReport(unittest.TestCase):
    def test_json_round_trip(self):
        """What was written is read back, verdicts included."""
        document = json.loads(json.dumps(report(*ROWS).to_dict()))
        self.assertEqual((document["verdict"], document["exit_code"]), ("FAIL", 1))
        self.assertEqual(document["rows"][0]["verdict"], "PASS")
        self.assertEqual(Report.from_dict(document), report(*ROWS))

    def test_text_table(self):
        """One line a row, columns aligned, the verdict last."""
        lines = text_table(ROWS).splitlines()
        self.assertEqual(len(lines), 4)
        self.assertEqual(
            {
                line.index(word)
                for line, word in zip(lines, ("target", "> 90%", "-", "all"), strict=True)
            },
            {lines[0].index("target")},
        )
        self.assertTrue(lines[3].endswith("FAIL"))

    def test_closing_line(self):
        """A pass is one word; anything else says which rows made it so."""
        self.assertEqual(report(ROWS[0]).closing_line(), "PASS")
        self.assertEqual(report(*ROWS).closing_line(), "FAIL: concurrent complete: 59 of 60")
        self.assertEqual(report().closing_line(), "INCONCLUSIVE")


class TestHandOver(unittest.TestCase):
    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def test_progress(self):
        """The newest whole entry is read once; half a line waits for its other half."""
        path = self.folder / "progress"
        reader = ProgressReader(path)
        self.assertIsNone(reader.latest())
        for done in (1, 2):
            write_progress(path, Progress("sequential", done, 9, 0))
        self.assertEqual(reader.latest(), Progress("sequential", 2, 9, 0))
        self.assertIsNone(reader.latest())
        whole = path.read_text().splitlines(keepends=True)[0]
        with path.open("a") as file:
            file.write(whole + whole[:5])
        self.assertEqual(reader.latest(), Progress("sequential", 1, 9, 0))
        self.assertIsNone(reader.latest())
        with path.open("a") as file:
            file.write(whole[5:])
        self.assertEqual(reader.latest(), Progress("sequential", 1, 9, 0))

    def test_report(self):
        """A report comes back as it was; none is None, and no part is left beside it."""
        path = self.folder / "verdict.json"
        self.assertIsNone(read_report(path))
        write_report(path, report(*ROWS))
        self.assertEqual(read_report(path), report(*ROWS))
        self.assertEqual([file.name for file in self.folder.iterdir()], ["verdict.json"])


if __name__ == "__main__":
    unittest.main()
