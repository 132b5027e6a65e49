"""harden.metrics_collector: what is recorded is what is read, exactly, from any thread."""

from __future__ import annotations

import json
import math
import threading
import time
import unittest
from unittest import mock

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from harden.metrics_collector import MetricsCollector, MetricType

MB = 1024 * 1024


def resident(size_mb):
    """Let psutil say that this process has so much memory."""
    process = mock.Mock()
    process.memory_info.return_value.rss = size_mb * MB
    return mock.patch("psutil.Process", return_value=process)


def no_psutil():
    """Let psutil fail, with a path in its message."""
    return mock.patch("psutil.Process", side_effect=OSError("/proc/self/statm: gone"))


def clock_at(now_s):
    return mock.patch("time.monotonic", return_value=now_s)


def samples_of(text):
    """Return every sample of a Prometheus text by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def in_threads(count, work):
    """Run work(thread number) in so many threads at once; fail if one does not end or raises."""
    gate = threading.Barrier(count)
    failures = []

    def run(number):
        gate.wait()
        try:
            work(number)
        except Exception as error:  # noqa: BLE001 - whatever it is, the test must see it
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    if failures or any(thread.is_alive() for thread in threads):
        raise AssertionError(f"a thread failed or hung: {failures}")


class TestMetricsCollectorBasics(unittest.TestCase):
    def setUp(self):
        self.collector = MetricsCollector()

    def test_new_collector_has_zeros(self):
        """Before the first record every count is zero, and nothing divides by it."""
        self.assertEqual(
            self.collector.get_cache_stats(),
            {"cache_hits": 0, "cache_misses": 0, "hit_rate": 0.0, "corruption_recoveries": 0},
        )
        self.assertEqual(
            self.collector.get_latency_stats(),
            {"enabled": True, "count": 0, "p50": 0.0, "p95": 0.0, "p99": 0.0},
        )
        self.assertEqual(self.collector.get_throughput_stats()["total_requests"], 0)
        self.assertEqual(self.collector.get_throughput_stats()["requests_per_second"], 0.0)

    def test_cache_hits_and_misses_are_counted(self):
        """Hits and misses are counted apart."""
        for _ in range(3):
            self.collector.record_cache_hit()
        self.collector.record_cache_miss()
        stats = self.collector.get_cache_stats()
        self.assertEqual((stats["cache_hits"], stats["cache_misses"]), (3, 1))

    def test_hit_rate_is_hits_over_lookups(self):
        """The hit rate is a share from 0 to 1 of all lookups."""
        self.collector.record_cache_miss()
        self.assertEqual(self.collector.get_cache_stats()["hit_rate"], 0.0)
        for _ in range(3):
            self.collector.record_cache_hit()
        self.assertEqual(self.collector.get_cache_stats()["hit_rate"], 0.75)

    def test_corruption_recoveries_are_counted(self):
        """A damaged entry that was removed is counted, and is neither hit nor miss."""
        self.collector.record_corruption_recovery()
        self.assertEqual(
            self.collector.get_cache_stats(),
            {"cache_hits": 0, "cache_misses": 0, "hit_rate": 0.0, "corruption_recoveries": 1},
        )

    def test_every_metric_type_can_be_recorded(self):
        """`record` reaches the call of each MetricType, and asks for the value of a latency."""
        with resident(100):
            for kind in MetricType:
                self.collector.record(kind, 5.0 if kind is MetricType.LATENCY else None)
        with resident(150):
            export = self.collector.export_metrics_json()
        self.assertEqual(export["cache"]["cache_hits"], 1)
        self.assertEqual(export["cache"]["cache_misses"], 1)
        self.assertEqual(export["latency"]["p50"], 5.0)
        self.assertEqual(export["memory"]["growth_percent"], 50.0)
        self.assertEqual(export["throughput"]["total_requests"], 1)
        with self.assertRaisesRegex(ValueError, "latency of nan ms"):
            self.collector.record(MetricType.LATENCY)
        with self.assertRaisesRegex(ValueError, "'weather'"):
            self.collector.record("weather")


class TestMetricsCollectorLatency(unittest.TestCase):
    def test_percentiles_of_one_to_a_hundred(self):
        """Of 1 to 100 ms the percentiles are 50, 95 and 99 ms, in whatever order they came."""
        collector = MetricsCollector()
        for latency_ms in sorted(range(1, 101), key=lambda ms: ms * 37 % 101):
            collector.record_latency(latency_ms)
        self.assertEqual(
            collector.get_latency_stats(),
            {"enabled": True, "count": 100, "p50": 50.0, "p95": 95.0, "p99": 99.0},
        )

    def test_one_latency_is_every_percentile(self):
        """A percentile is a latency that somebody waited for, even if there is only one."""
        collector = MetricsCollector()
        collector.record_latency(12.5)
        stats = collector.get_latency_stats()
        self.assertEqual((stats["p50"], stats["p95"], stats["p99"]), (12.5, 12.5, 12.5))

    def test_disabled_latency_tracking_keeps_nothing(self):
        """With tracking off the statistics say so, and a latency leaves no trace."""
        collector = MetricsCollector(enable_latency_tracking=False)
        collector.record_latency(10.0)
        stats = collector.get_latency_stats()
        self.assertFalse(stats["enabled"])
        self.assertEqual((stats["count"], stats["p99"]), (0, 0.0))

    def test_window_is_the_newest_ten_thousand(self):
        """Percentiles forget what is older than 10,000 records; the count does not."""
        collector = MetricsCollector()
        for _ in range(10_000):
            collector.record_latency(1_000.0)
        for _ in range(5_001):
            collector.record_latency(1.0)
        stats = collector.get_latency_stats()
        self.assertEqual((stats["count"], stats["p50"], stats["p95"]), (15_001, 1.0, 1_000.0))
        for _ in range(4_999):
            collector.record_latency(1.0)
        self.assertEqual(collector.get_latency_stats()["p99"], 1.0)


class TestMetricsCollectorMemory(unittest.TestCase):
    def setUp(self):
        self.collector = MetricsCollector()

    def test_growth_is_from_the_first_record(self):
        """Growth compares now with the first record; reading before it sets no baseline."""
        with resident(500):
            self.assertEqual(self.collector.get_memory_stats()["growth_percent"], 0.0)
        with resident(100):
            self.collector.record_memory_usage()
        with resident(110):
            self.collector.record_memory_usage()
        with resident(125):
            stats = self.collector.get_memory_stats()
        self.assertEqual((stats["current_mb"], stats["growth_percent"]), (125.0, 25.0))

    def test_peak_is_the_most_ever_recorded(self):
        """The peak outlives the memory that was given back."""
        for size_mb in (100, 300, 50):
            with resident(size_mb):
                self.collector.record_memory_usage()
        with resident(60):
            stats = self.collector.get_memory_stats()
        self.assertEqual((stats["current_mb"], stats["peak_mb"]), (60.0, 300.0))
        self.assertEqual(stats["growth_percent"], -40.0)

    def test_disabled_memory_tracking_reads_nothing(self):
        """With tracking off psutil is not asked, and the statistics say so."""
        collector = MetricsCollector(enable_memory_tracking=False)
        with resident(100) as process:
            collector.record_memory_usage()
            stats = collector.get_memory_stats()
        process.assert_not_called()
        self.assertFalse(stats["enabled"])
        self.assertEqual(stats["current_mb"], "unavailable")

    def test_broken_psutil_is_unavailable(self):
        """Where psutil fails, or is not there, the figures say "unavailable", with no path."""
        for broken in (no_psutil(), mock.patch.dict("sys.modules", {"psutil": None})):
            with self.subTest(broken=broken), broken:
                self.collector.record_memory_usage()
                stats = self.collector.get_memory_stats()
                self.assertEqual(stats["current_mb"], "unavailable")
                self.assertIn("unavailable", stats["message"])
                self.assertNotIn("/", json.dumps(stats))


class TestMetricsCollectorThroughput(unittest.TestCase):
    def test_twenty_requests_in_a_second_of_life(self):
        """The rate is over the life so far while that is shorter than the window."""
        with clock_at(100.0):
            collector = MetricsCollector()
        for number in range(20):
            with clock_at(100.0 + number * 0.05):
                collector.record_request()
        with clock_at(101.0):
            stats = collector.get_throughput_stats()
        self.assertEqual((stats["total_requests"], stats["requests_per_second"]), (20, 20.0))

    def test_old_requests_leave_the_window(self):
        """Requests older than the window count in the total and not in the rate."""
        with clock_at(0.0):
            collector = MetricsCollector()
        for number in range(30):
            with clock_at(float(number)):
                collector.record_request()
        with clock_at(60.0):
            self.assertEqual(
                collector.get_throughput_stats(window_seconds=40.0),
                {"total_requests": 30, "requests_per_second": 10 / 40, "window_seconds": 40.0},
            )
        with clock_at(3_600.0):
            self.assertEqual(collector.get_throughput_stats()["requests_per_second"], 0.0)

    def test_window_must_be_positive(self):
        """No rate is over no time: zero, negative and NaN windows are refused."""
        collector = MetricsCollector()
        for window_s in (0, -1.0, math.nan):
            with self.subTest(window_s=window_s), self.assertRaisesRegex(ValueError, "window of"):
                collector.get_throughput_stats(window_seconds=window_s)


class TestMetricsCollectorExport(unittest.TestCase):
    def setUp(self):
        self.collector = MetricsCollector()
        self.collector.record_cache_hit()
        self.collector.record_cache_hit()
        self.collector.record_cache_miss()
        self.collector.record_latency(123.456)
        self.collector.record_latency(789.0)
        self.collector.record_request()

    def test_json_has_every_category(self):
        """The export holds all categories and survives a round trip through JSON."""
        export = self.collector.export_metrics_json()
        self.assertEqual(
            set(export), {"cache", "latency", "memory", "throughput", "timestamp", "uptime_seconds"}
        )
        self.assertEqual(json.loads(json.dumps(export, allow_nan=False)), export)

    def test_json_has_time_and_uptime(self):
        """The timestamp is ISO 8601 in UTC, and the uptime goes up."""
        first = self.collector.export_metrics_json()
        self.assertRegex(first["timestamp"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        with clock_at(time.monotonic() + 60):
            later = self.collector.export_metrics_json()
        self.assertGreaterEqual(later["uptime_seconds"], first["uptime_seconds"] + 60)

    def test_prometheus_has_help_and_type(self):
        """The text declares the two counters that the contract names, with their values."""
        text = self.collector.export_metrics_prometheus()
        for name, value in (("cache_hit_total", 2), ("cache_miss_total", 1)):
            self.assertRegex(text, rf"(?m)^# HELP {name} \S")
            self.assertRegex(text, rf"(?m)^# TYPE {name} counter$")
            self.assertRegex(text, rf"(?m)^{name} {value}\.0$")

    def test_prometheus_agrees_with_json(self):
        """Both exports say the same, and the text is what Prometheus' own parser takes."""
        with resident(64):
            self.collector.record_memory_usage()
            export = self.collector.export_metrics_json()
            samples = samples_of(self.collector.export_metrics_prometheus())
        latency = "mlx_latency_milliseconds"
        self.assertEqual(samples[f"{latency}_count", ()], export["latency"]["count"])
        self.assertEqual(samples[f"{latency}_sum", ()], 123.456 + 789.0)
        self.assertEqual(samples[latency, (("quantile", "0.5"),)], export["latency"]["p50"])
        self.assertEqual(samples[latency, (("quantile", "0.99"),)], export["latency"]["p99"])
        self.assertEqual(samples["mlx_throughput_requests_total", ()], 1)
        self.assertEqual(samples["mlx_process_resident_memory_bytes", ()], 64 * MB)
        self.assertEqual(samples["mlx_process_resident_memory_peak_bytes", ()], 64 * MB)


class TestMetricsCollectorReset(unittest.TestCase):
    def setUp(self):
        self.collector = MetricsCollector()
        self.collector.record_cache_hit()
        self.collector.record_corruption_recovery()
        self.collector.record_latency(10.0)
        self.collector.record_request()
        with resident(100):
            self.collector.record_memory_usage()

    def test_reset_cache_stats_spares_the_rest(self):
        """Only the cache's counts go back to zero."""
        self.collector.reset_cache_stats()
        export = self.collector.export_metrics_json()
        self.assertEqual(
            export["cache"],
            {"cache_hits": 0, "cache_misses": 0, "hit_rate": 0.0, "corruption_recoveries": 0},
        )
        self.assertEqual(export["latency"]["count"], 1)
        self.assertEqual(export["throughput"]["total_requests"], 1)

    def test_reset_latency_stats_spares_the_rest(self):
        """Only the latencies go."""
        self.collector.reset_latency_stats()
        export = self.collector.export_metrics_json()
        self.assertEqual((export["latency"]["count"], export["latency"]["p99"]), (0, 0.0))
        self.assertEqual(export["cache"]["cache_hits"], 1)
        self.assertEqual(export["throughput"]["total_requests"], 1)

    def test_reset_all_metrics_starts_afresh(self):
        """Everything goes, the memory's first record and the rate too; recording goes on."""
        self.collector.reset_all_metrics()
        with resident(300):
            self.collector.record_memory_usage()
            export = self.collector.export_metrics_json()
        self.assertEqual(export["cache"]["cache_hits"], 0)
        self.assertEqual(export["cache"]["corruption_recoveries"], 0)
        self.assertEqual(export["latency"]["count"], 0)
        self.assertEqual(
            (export["memory"]["peak_mb"], export["memory"]["growth_percent"]), (300, 0)
        )
        self.assertEqual(export["throughput"]["total_requests"], 0)
        self.assertEqual(export["throughput"]["requests_per_second"], 0.0)
        self.collector.record_request()
        self.assertEqual(self.collector.get_throughput_stats()["total_requests"], 1)


class TestMetricsCollectorThreadSafety(unittest.TestCase):
    def test_no_record_is_lost(self):
        """Counts after ten threads are what ten threads recorded."""
        collector = MetricsCollector()

        def record(_):
            for _ in range(1_000):
                collector.record_cache_hit()
                collector.record_cache_miss()
                collector.record_latency(1.0)
                collector.record_request()

        in_threads(10, record)
        export = collector.export_metrics_json()
        self.assertEqual(export["cache"]["cache_hits"], 10_000)
        self.assertEqual(export["cache"]["cache_misses"], 10_000)
        self.assertEqual(export["latency"]["count"], 10_000)
        self.assertEqual(export["throughput"]["total_requests"], 10_000)

    def test_reading_and_resetting_beside_recording(self):
        """Readers and resets beside writers neither raise nor hang nor see half a record."""
        collector = MetricsCollector()

        def work(number):
            for _ in range(50):
                match number % 4:
                    case 0 | 1:
                        collector.record_latency(7.0)
                        collector.record_cache_hit()
                    case 2:
                        stats = collector.get_latency_stats()
                        self.assertIn((stats["count"] > 0, stats["p99"]), [(True, 7), (False, 0)])
                        collector.export_metrics_prometheus()
                    case _:
                        collector.reset_all_metrics()

        in_threads(8, work)


class TestMetricsCollectorEdgeCases(unittest.TestCase):
    def test_impossible_latencies_are_refused(self):
        """Negative, NaN, infinite and overlong latencies raise and leave nothing behind."""
        collector = MetricsCollector()
        for latency_ms in (-0.001, math.nan, math.inf, -math.inf, 10**400):
            with self.subTest(latency_ms=latency_ms), self.assertRaisesRegex(ValueError, "latency"):
                collector.record_latency(latency_ms)
        self.assertEqual(collector.get_latency_stats()["count"], 0)

    def test_zero_and_an_hour_are_accepted(self):
        """Zero milliseconds and an hour are latencies like others."""
        collector = MetricsCollector()
        collector.record_latency(0)
        collector.record_latency(3_600_000)
        stats = collector.get_latency_stats()
        self.assertEqual((stats["count"], stats["p50"], stats["p99"]), (2, 0.0, 3_600_000.0))

    def test_no_export_holds_a_single_latency(self):
        """Beside the three percentiles no latency leaves the collector."""
        collector = MetricsCollector()
        for latency_ms in range(100_001, 100_101):
            collector.record_latency(latency_ms)
        self.assertEqual(
            set(collector.get_latency_stats()), {"enabled", "count", "p50", "p95", "p99"}
        )
        exported = json.dumps(collector.export_metrics_json())
        exported += collector.export_metrics_prometheus()
        told = [ms for ms in range(100_001, 100_101) if str(ms) in exported]
        self.assertEqual(told, [100_050, 100_095, 100_099])

    def test_a_registry_takes_one_collector(self):
        """The registry is the caller's; a second collector on it is refused, not mixed in."""
        registry = CollectorRegistry()
        collector = MetricsCollector(registry=registry)
        collector.record_cache_hit()
        self.assertIs(collector.registry, registry)
        self.assertEqual(registry.get_sample_value("cache_hit_total"), 1.0)
        with self.assertRaisesRegex(ValueError, "cache_hit"):
            MetricsCollector(registry=registry)

    def test_collectors_are_independent(self):
        """What one collector counts another does not."""
        one, other = MetricsCollector(), MetricsCollector()
        one.record_cache_hit()
        one.record_latency(1.0)
        self.assertEqual(other.get_cache_stats()["cache_hits"], 0)
        self.assertEqual(other.get_latency_stats()["count"], 0)
        self.assertIn("\ncache_hit_total 0.0\n", other.export_metrics_prometheus())


if __name__ == "__main__":
    unittest.main()
