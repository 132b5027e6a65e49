"""Measured times against a server whose times are known."""

from __future__ import annotations

import unittest

import pytest
from load_case import LoadCase

FIRST_TOKEN_MS = 100.0
GAP_MS = 20.0
TTFT_TOLERANCE_MS = 5.0
GAP_TOLERANCE_MS = 2.0


@pytest.mark.timing
class TestAccuracy(LoadCase):
    def assert_true_times(self, *options: str) -> None:
        url = self.serve("--first-ms", str(FIRST_TOKEN_MS), "--gap-ms", str(GAP_MS))
        ended = self.locust("--host", url, *options)
        self.assertIsNotNone(ended.report, ended.output)
        (figures,) = ended.report["figures"].values()
        self.assertGreaterEqual(figures["ttft_ms"]["count"], 20)
        self.assertAlmostEqual(figures["ttft_ms"]["p50"], FIRST_TOKEN_MS, delta=TTFT_TOLERANCE_MS)
        self.assertAlmostEqual(figures["inter_token_ms"]["p50"], GAP_MS, delta=GAP_TOLERANCE_MS)

    def test_one_user(self):
        """TTFT within 5 ms and inter-token latency within 2 ms of the truth, at the median."""
        self.assert_true_times("--scenario", "sequential", "--requests", "20", "--warm-up", "2")

    def test_ten_users(self):
        """The same with ten users at the same time."""
        self.assert_true_times("--scenario", "concurrent", "--rounds", "4")


if __name__ == "__main__":
    unittest.main()
