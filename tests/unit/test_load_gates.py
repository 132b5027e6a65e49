"""harden.load.gates and verdict: every target at its boundary, and nothing is never a pass."""

from __future__ import annotations

import math
import unittest

from hypothesis import given
from hypothesis import strategies as st

from harden.load import gates
from harden.load.ledger import Reconciliation
from harden.load.verdict import GateResult, Verdict, overall

NAN = math.nan


def row(verdict: Verdict) -> GateResult:
    return GateResult("s", "n", "t", "m", verdict)


class TestVerdict(unittest.TestCase):
    def test_exit_codes(self):
        """The public exit codes."""
        codes = {verdict.value: verdict.exit_code for verdict in Verdict}
        self.assertEqual(codes, {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3, "INVALID": 4, "-": 3})

    def test_order(self):
        """INVALID outweighs FAIL, FAIL outweighs INCONCLUSIVE, that outweighs PASS."""
        order = [Verdict.INVALID, Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS]
        for place, verdict in enumerate(order):
            self.assertIs(overall(map(row, reversed(order[place:]))), verdict)

    def test_nothing_is_no_pass(self):
        """No rows, or only rows without a target, say nothing."""
        self.assertIs(overall([]), Verdict.INCONCLUSIVE)
        self.assertIs(overall([row(Verdict.INFORMATION)]), Verdict.INCONCLUSIVE)


class TestShares(unittest.TestCase):
    def test_success_has_to_exceed_the_share(self):
        """90 of 100 is not more than 90%; 91 is."""
        self.assertIs(gates.success_share("s", 90, 100).verdict, Verdict.FAIL)
        self.assertIs(gates.success_share("s", 91, 100).verdict, Verdict.PASS)
        self.assertEqual(gates.success_share("s", 91, 100).measured, "91.0% (91 of 100)")

    def test_complete_means_all(self):
        """One missing of many is a failure."""
        self.assertIs(gates.all_complete("s", 60, 60).verdict, Verdict.PASS)
        self.assertIs(gates.all_complete("s", 59, 60).verdict, Verdict.FAIL)

    def test_no_requests(self):
        """A share of nothing is unknown."""
        self.assertIs(gates.success_share("s", 0, 0).verdict, Verdict.INCONCLUSIVE)
        self.assertIs(gates.all_complete("s", 0, 0).verdict, Verdict.INCONCLUSIVE)


class TestLatencySpread(unittest.TestCase):
    def test_boundary(self):
        """Twice the median is too much, a little less is not."""
        self.assertIs(gates.latency_spread("s", [100.0] * 19 + [1e9]).verdict, Verdict.PASS)
        slow = [100.0] * 18 + [200.0] * 2
        self.assertIs(gates.latency_spread("s", slow).verdict, Verdict.FAIL)
        less = [100.0] * 18 + [199.9] * 2
        self.assertIs(gates.latency_spread("s", less).verdict, Verdict.PASS)

    def test_too_few(self):
        """Below twenty samples there is no 95th percentile to speak of."""
        for count in (0, 1, 19):
            result = gates.latency_spread("s", [1.0] * count)
            self.assertIs(result.verdict, Verdict.INCONCLUSIVE)

    def test_impossible_samples(self):
        """NaN, infinite, zero and negative latencies are a broken clock, not a fast server."""
        for bad in (NAN, math.inf, 0.0, -1.0):
            for place in (0, 10, 19):
                samples = [1.0] * 20
                samples[place] = bad
                self.assertIs(gates.latency_spread("s", samples).verdict, Verdict.INVALID)


class TestMemory(unittest.TestCase):
    def test_boundary(self):
        """A fifth more is too much; shrinking is fine."""
        self.assertIs(gates.memory_growth("s", "worker", 100.0, 120.0).verdict, Verdict.FAIL)
        self.assertIs(gates.memory_growth("s", "worker", 100.0, 119.9).verdict, Verdict.PASS)
        self.assertIs(gates.memory_growth("s", "worker", 100.0, 50.0).verdict, Verdict.PASS)

    def test_unknown(self):
        """A missing or impossible figure is no pass."""
        for before, after in ((None, 1.0), (1.0, None), (NAN, 1.0), (1.0, NAN), (0.0, 1.0)):
            result = gates.memory_growth("s", "worker", before, after)
            self.assertIs(result.verdict, Verdict.INCONCLUSIVE, (before, after))

    def test_every_process_is_judged(self):
        """Each that is reported, before or after, gets a row."""
        rows = gates.memory_growths(
            "s", {"gateway": 10.0, "worker": 10.0}, {"gateway": 10.0}, same_worker=True
        )
        self.assertEqual([r.verdict for r in rows], [Verdict.PASS, Verdict.INCONCLUSIVE])

    def test_no_process_is_reported(self):
        """A server without memory figures cannot pass."""
        rows = gates.memory_growths("s", {}, {}, same_worker=True)
        self.assertEqual([r.verdict for r in rows], [Verdict.INCONCLUSIVE])

    def test_a_new_worker_is_not_compared(self):
        """A worker that was started anew is small, and that proves nothing."""
        figures = {"gateway": 10.0, "worker": 10.0}
        rows = gates.memory_growths("s", figures, figures, same_worker=False)
        self.assertEqual([r.verdict for r in rows], [Verdict.PASS, Verdict.INCONCLUSIVE])
        self.assertEqual(rows[1].measured, "started anew")


class TestLedgers(unittest.TestCase):
    def test_equal(self):
        """No difference: pass."""
        result = gates.ledgers_agree("s", Reconciliation(0, (), "3 requests"))
        self.assertIs(result.verdict, Verdict.PASS)

    def test_foreign_is_invalid_and_says_why(self):
        """With someone else's requests no figure is ours, whatever else differs."""
        result = gates.ledgers_agree("s", Reconciliation(2, ("tokens",), ""))
        self.assertIs(result.verdict, Verdict.INVALID)
        self.assertIn("2 of someone else's requests", result.measured)

    def test_difference_fails(self):
        """A server that counts wrongly fails."""
        result = gates.ledgers_agree("s", Reconciliation(0, ("status 500: …",), ""))
        self.assertIs(result.verdict, Verdict.FAIL)


class TestLag(unittest.TestCase):
    def test_boundary(self):
        """At the bound it holds; above it nothing that was measured counts."""
        self.assertIs(gates.harness_lag("s", [250.0]).verdict, Verdict.PASS)
        self.assertIs(gates.harness_lag("s", [250.1]).verdict, Verdict.INVALID)

    @given(st.lists(st.floats(0, 10), max_size=30), st.integers(0, 30))
    def test_nan_never_passes(self, lags: list[float], place: int):
        """One impossible lag spoils the row."""
        lags.insert(min(place, len(lags)), NAN)
        self.assertIs(gates.harness_lag("s", lags).verdict, Verdict.INVALID)

    def test_no_requests(self):
        """Nothing sent is nothing known."""
        self.assertIs(gates.harness_lag("s", []).verdict, Verdict.INCONCLUSIVE)


if __name__ == "__main__":
    unittest.main()
