"""Does MetricsCollector's memory stay flat over ten million records?

    python -m benchmarks.collector_memory [--records 10000000]

Exit code 1 if memory after the first tenth and at the end differ by more than 100 KB.
"""

from __future__ import annotations

import argparse
import sys
import time
import tracemalloc

from harden.metrics_collector import MetricsCollector

_TOLERATED_BYTES = 100_000


def main() -> int:
    """Record, and compare the memory after a tenth with the memory at the end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=10_000_000)
    records = parser.parse_args().records
    collector = MetricsCollector()
    tracemalloc.start()
    started = time.perf_counter()
    _record(collector, records // 10)
    early_bytes = tracemalloc.get_traced_memory()[0]
    _record(collector, records - records // 10)
    late_bytes = tracemalloc.get_traced_memory()[0]
    seconds = time.perf_counter() - started
    growth_bytes = late_bytes - early_bytes
    print(f"{records:,} records in {seconds:.0f} s (under tracemalloc)")
    print(f"after a tenth {early_bytes:,} bytes, at the end {late_bytes:,}: {growth_bytes:+,}")
    return int(growth_bytes > _TOLERATED_BYTES)


def _record(collector: MetricsCollector, count: int) -> None:
    for number in range(count):
        collector.record_latency(float(number % 5_000))


if __name__ == "__main__":
    sys.exit(main())
