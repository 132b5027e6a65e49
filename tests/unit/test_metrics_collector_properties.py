"""harden.metrics_collector and the windows below it, against numpy and under many threads."""

from __future__ import annotations

import statistics
import sys
import threading
import timeit
import tracemalloc
import unittest
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from harden import metrics_types
from harden.metrics_collector import MetricsCollector, MetricType
from harden.percentiles import Percentiles, SampleWindow, inverted_cdf
from harden.rate_window import BUCKET_S, HORIZON_S, RateWindow

PERCENTS = (50, 95, 99)
LATENCIES_MS = st.floats(min_value=0.0, max_value=3.6e6, allow_nan=False)


def numpy_percentiles(samples):
    return tuple(np.percentile(samples, PERCENTS, method="inverted_cdf").tolist())


def kept_percentiles(percentiles):
    return percentiles.p50, percentiles.p95, percentiles.p99


class TestPercentiles(unittest.TestCase):
    @settings(deadline=None)
    @given(st.lists(LATENCIES_MS, min_size=1, max_size=300))
    def test_any_latencies_give_numpys_percentiles(self, latencies_ms):
        """Percentiles equal numpy's inverted_cdf for any latencies, exactly."""
        collector = MetricsCollector()
        for latency_ms in latencies_ms:
            collector.record_latency(latency_ms)
        stats = collector.get_latency_stats()
        self.assertEqual(
            (stats["p50"], stats["p95"], stats["p99"]), numpy_percentiles(latencies_ms)
        )

    def test_every_number_of_samples_gives_numpys_rank(self):
        """The rank is numpy's for every window from 1 to 10,000: no rounding picks a neighbour."""
        for count in range(1, 10_001):
            # Of samples that are their own index, the percentile is the rank that was picked.
            ranks = tuple(inverted_cdf(range(count), percent) for percent in PERCENTS)
            expected = numpy_percentiles(np.arange(count))
            self.assertEqual(ranks, expected, f"of {count} samples")

    @settings(max_examples=60, deadline=None)
    @given(
        st.sampled_from([1, 7, 500, 1_000, 1_500]),
        st.integers(min_value=0, max_value=4_000),
        st.integers(min_value=0, max_value=2**32 - 1),
    )
    def test_a_window_forgets_exactly_the_oldest(self, size, count, seed):
        """Whatever was recorded, percentiles are of the newest `size`; count and sum of all."""
        samples = np.random.default_rng(seed).exponential(100.0, count)
        window = SampleWindow(size)
        for sample in samples.tolist():
            window.record(sample)
        seen = window.percentiles()
        if not count:
            self.assertEqual(seen, Percentiles())
            return
        self.assertEqual(kept_percentiles(seen), numpy_percentiles(samples[-size:]))
        self.assertEqual(seen.count, count)
        # Python 3.12 and later add floats with less rounding than one after the other.
        self.assertAlmostEqual(seen.total, sum(samples.tolist()), places=6)

    def test_ten_thousand_and_a_few(self):
        """At the window's own size, one before and some after, numpy still agrees."""
        samples = np.random.default_rng(7).lognormal(3.0, 1.0, 20_700)
        collector = MetricsCollector()
        marks = {9_999, 10_000, 10_001, 10_499, 10_500, 10_501, 20_000, 20_700}
        for count, sample in enumerate(samples.tolist(), start=1):
            collector.record_latency(sample)
            if count in marks:
                stats = collector.get_latency_stats()
                expected = numpy_percentiles(samples[max(0, count - 10_000) : count])
                self.assertEqual((stats["p50"], stats["p95"], stats["p99"]), expected, count)

    def test_a_window_is_a_whole_number_of_runs(self):
        """A size that cannot be kept exactly is refused."""
        for size in (0, -500, 501, 10_001):
            with self.subTest(size=size), self.assertRaisesRegex(ValueError, str(size)):
                SampleWindow(size)


class TestRateWindow(unittest.TestCase):
    @settings(deadline=None)
    @given(
        st.lists(st.floats(min_value=0.0, max_value=900.0), max_size=60),
        st.floats(min_value=0.0, max_value=300.0),
        st.floats(min_value=BUCKET_S, max_value=1_200.0),
    )
    def test_rate_is_that_of_a_full_record(self, arrivals_s, quiet_s, window_s):
        """The rate lies between those of the window and of a window one bucket longer."""
        rate = RateWindow(0.0)
        for arrival_s in sorted(arrivals_s):
            rate.record(arrival_s)
        now_s = max(arrivals_s, default=0.0) + quiet_s
        span_s = min(window_s, max(now_s, BUCKET_S), HORIZON_S)
        # At the horizon the ring holds no bucket to spare.
        surely = [at for at in arrivals_s if now_s - min(span_s, HORIZON_S - BUCKET_S) <= at]
        perhaps = [at for at in arrivals_s if now_s - span_s - 1.01 * BUCKET_S <= at]
        seen = rate.per_second(now_s, window_s) * span_s
        self.assertLessEqual(len(surely), seen + 1e-6)
        self.assertLessEqual(seen, len(perhaps) + 1e-6)

    def test_a_pause_of_a_day_empties_the_ring(self):
        """After any pause the old buckets are empty, and counting goes on."""
        rate = RateWindow(5.0)
        rate.record(5.0)
        rate.record(86_405.0)
        self.assertEqual(rate.per_second(86_405.0, 10.0), 1 / 10)
        self.assertEqual(rate.per_second(86_405.0, 86_400.0), 1 / HORIZON_S)


class TestThreads(unittest.TestCase):
    THREADS = 16
    ROUNDS = 400

    def test_sixteen_threads_lose_no_count(self):
        """Every method at once from 16 threads: nothing raises, hangs or loses a count."""
        collector = MetricsCollector()
        failures = []

        def hammer():
            try:
                for turn in range(self.ROUNDS):
                    for kind in MetricType:
                        collector.record(kind, 1.0 if kind is MetricType.LATENCY else None)
                    collector.record_corruption_recovery()
                    if turn % 100 == 0:
                        collector.export_metrics_json()
                        collector.export_metrics_prometheus()
            except Exception as error:  # noqa: BLE001 - whatever it is, the test must see it
                failures.append(error)

        self._run(hammer)
        recorded = self.THREADS * self.ROUNDS
        export = collector.export_metrics_json()
        self.assertEqual(failures, [])
        self.assertEqual(export["cache"]["cache_hits"], recorded)
        self.assertEqual(export["cache"]["cache_misses"], recorded)
        self.assertEqual(export["cache"]["corruption_recoveries"], recorded)
        self.assertEqual(export["latency"]["count"], recorded)
        self.assertEqual(export["throughput"]["total_requests"], recorded)

    def _run(self, work):
        interval_s = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        self.addCleanup(sys.setswitchinterval, interval_s)
        process = mock.Mock()
        process.memory_info.return_value.rss = 1
        with mock.patch("psutil.Process", return_value=process):
            threads = [threading.Thread(target=work, daemon=True) for _ in range(self.THREADS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(timeout=120)
        self.assertFalse(any(thread.is_alive() for thread in threads), "a thread hangs")


class TestBoundedMemory(unittest.TestCase):
    def test_recording_leaves_memory_flat(self):
        """Once the windows are full, twenty thousand more records of each kind add nothing."""
        collector = MetricsCollector()
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self._record(collector, 12_000)
        full_bytes, _ = tracemalloc.get_traced_memory()
        self._record(collector, 20_000)
        now_bytes, _ = tracemalloc.get_traced_memory()
        # One run of samples may be part full: 500 of 8 bytes, with the list's spare room.
        self.assertLess(now_bytes - full_bytes, 8_192)
        self.assertLess(now_bytes, 512 * 1024)

    def _record(self, collector, count):
        for number in range(count):
            collector.record_latency(float(number))
            collector.record_request()
            collector.record_cache_hit()
            collector.record_cache_miss()
            collector.record_corruption_recovery()


class TestDeclaredTypes(unittest.TestCase):
    def test_results_have_the_keys_that_their_types_declare(self):
        """A dict at run time is what the type checker was told, with and without figures."""
        on = MetricsCollector()
        off = MetricsCollector(enable_memory_tracking=False, enable_latency_tracking=False)
        for collector, missing in ((on, {"message"}), (off, set())):
            for result, declared in (
                (collector.get_cache_stats(), metrics_types.CacheStats),
                (collector.get_latency_stats(), metrics_types.LatencyStats),
                (collector.get_memory_stats(), metrics_types.MemoryStats),
                (collector.get_throughput_stats(), metrics_types.ThroughputStats),
                (collector.export_metrics_json(), metrics_types.MetricsExport),
            ):
                self.assertEqual(set(result), set(declared.__annotations__) - missing)


@pytest.mark.timing
class TestCost(unittest.TestCase):
    def test_a_record_costs_about_what_a_histogram_does(self):
        """Each record call takes at most 1.5 times what Histogram.observe takes."""
        collector = MetricsCollector()
        histogram = Histogram("reference", "For comparison.", registry=CollectorRegistry())
        for record in (
            collector.record_cache_hit,
            collector.record_cache_miss,
            collector.record_corruption_recovery,
            collector.record_request,
            lambda: collector.record_latency(300.0),
        ):
            self.assertLess(self._ratio(record, lambda: histogram.observe(0.3)), 1.5)

    def _ratio(self, call, reference):
        """Return the median over pairs taken one right after the other."""
        pairs = [
            timeit.timeit(call, number=5_000) / timeit.timeit(reference, number=5_000)
            for _ in range(15)
        ]
        return statistics.median(pairs)


if __name__ == "__main__":
    unittest.main()
