"""The targets of the main job, each a pure function from evidence to a verdict.

No gate passes on nothing: without samples, or without a figure, it is INCONCLUSIVE; figures that
are not numbers never compare as good.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from harden.load.verdict import GateResult, Verdict
from harden.percentiles import inverted_cdf

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harden.load.ledger import Reconciliation

__all__ = [
    "MAX_LAG_MS",
    "MIN_TAIL_SAMPLES",
    "all_complete",
    "harness_lag",
    "latency_spread",
    "ledgers_agree",
    "memory_growth",
    "memory_growths",
    "success_share",
]

MIN_TAIL_SAMPLES = 20
"""Fewest samples of which the 95th percentile is not simply the maximum."""
MAX_LAG_MS = 250.0
"""Most that the sender may run behind at the 95th percentile before it measures itself."""


def success_share(scenario: str, succeeded: int, sent: int, *, minimum: float = 0.9) -> GateResult:
    """Judge that more than a share of the requests succeeded.

    Args:
        scenario: name for the row.
        succeeded: requests with a whole answer.
        sent: requests sent.
        minimum: the share, between 0 and 1, that has to be exceeded.
    """
    target = f"> {minimum:.0%}"
    if sent <= 0:
        return GateResult(scenario, "success", target, "no requests", Verdict.INCONCLUSIVE)
    measured = f"{succeeded / sent:.1%} ({succeeded} of {sent})"
    verdict = _judge(succeeded / sent > minimum)
    return GateResult(scenario, "success", target, measured, verdict)


def all_complete(scenario: str, succeeded: int, sent: int) -> GateResult:
    """Judge that every request succeeded.

    Args:
        scenario: name for the row.
        succeeded: requests with a whole answer.
        sent: requests sent.
    """
    if sent <= 0:
        return GateResult(scenario, "complete", "all", "no requests", Verdict.INCONCLUSIVE)
    measured = f"{succeeded} of {sent}"
    return GateResult(scenario, "complete", "all", measured, _judge(succeeded == sent))


def latency_spread(
    scenario: str, latencies_ms: Sequence[float], *, limit: float = 2.0
) -> GateResult:
    """Judge that the 95th percentile of end-to-end latency stays near the median.

    Args:
        scenario: name for the row.
        latencies_ms: latencies of successful requests, in ms.
        limit: what p95 / p50 has to stay below.
    """
    target = f"p95 < {limit:g} x p50"
    name = "latency spread"
    if len(latencies_ms) < MIN_TAIL_SAMPLES:
        measured = f"{len(latencies_ms)} samples of at least {MIN_TAIL_SAMPLES}"
        return GateResult(scenario, name, target, measured, Verdict.INCONCLUSIVE)
    if not all(math.isfinite(value) and value > 0 for value in latencies_ms):
        return GateResult(scenario, name, target, "impossible latencies", Verdict.INVALID)
    ordered = sorted(latencies_ms)
    p50_ms, p95_ms = inverted_cdf(ordered, 50), inverted_cdf(ordered, 95)
    measured = f"{p95_ms / p50_ms:.2f} x ({p95_ms:.0f} ms / {p50_ms:.0f} ms)"
    return GateResult(scenario, name, target, measured, _judge(p95_ms < limit * p50_ms))


def memory_growth(
    scenario: str,
    process: str,
    before_mb: float | None,
    after_mb: float | None,
    *,
    limit: float = 0.2,
) -> GateResult:
    """Judge that a process's memory grew by less than a share.

    Args:
        scenario: name for the row.
        process: name of the process, for the row.
        before_mb: its memory after the warm-up; None if unknown.
        after_mb: its memory at the end; None if unknown.
        limit: the share of growth that must not be reached.
    """
    name, target = f"{process} memory growth", f"< {limit:.0%}"
    if before_mb is None or after_mb is None:
        return GateResult(scenario, name, target, "not reported", Verdict.INCONCLUSIVE)
    if not (math.isfinite(before_mb) and math.isfinite(after_mb) and before_mb > 0):
        return GateResult(scenario, name, target, "impossible figures", Verdict.INCONCLUSIVE)
    growth = (after_mb - before_mb) / before_mb
    measured = f"{growth:+.1%} ({before_mb:.1f} -> {after_mb:.1f} MB)"
    return GateResult(scenario, name, target, measured, _judge(growth < limit))


def memory_growths(
    scenario: str,
    before_mb: Mapping[str, float],
    after_mb: Mapping[str, float],
    *,
    same_worker: bool,
) -> list[GateResult]:
    """Judge every process that the server reports; at least one has to be.

    Args:
        scenario: name for the rows.
        before_mb: memory by process after the warm-up.
        after_mb: memory by process at the end.
        same_worker: whether the worker was not started anew in between; a new one's memory says
            nothing about growth.
    """
    rows = []
    for process in sorted({*before_mb, *after_mb}) or ["server"]:
        row = memory_growth(scenario, process, before_mb.get(process), after_mb.get(process))
        if process == "worker" and not same_worker:
            row = replace(row, measured="started anew", verdict=Verdict.INCONCLUSIVE)
        rows.append(row)
    return rows


def ledgers_agree(scenario: str, found: Reconciliation) -> GateResult:
    """Judge that client and server counted the same.

    Args:
        scenario: name for the row.
        found: what comparing them found.
    """
    name, target = "ledger", "client = server"
    if found.foreign:
        measured = f"the server counted {found.foreign} of someone else's requests"
        return GateResult(scenario, name, target, measured, Verdict.INVALID)
    if found.differences:
        return GateResult(scenario, name, target, "; ".join(found.differences), Verdict.FAIL)
    return GateResult(scenario, name, target, f"equal: {found.summary}", Verdict.PASS)


def harness_lag(
    scenario: str, lags_ms: Sequence[float], *, limit_ms: float = MAX_LAG_MS
) -> GateResult:
    """Judge that the load generator itself kept up; if it did not, nothing else counts.

    Args:
        scenario: name for the row.
        lags_ms: how much later than intended the client turned to each request, in ms.
        limit_ms: most that the 95th percentile may be.
    """
    name, target = "harness lag", f"p95 <= {limit_ms:g} ms"
    if not lags_ms:
        return GateResult(scenario, name, target, "no requests", Verdict.INCONCLUSIVE)
    p95_ms = inverted_cdf(sorted(lags_ms), 95)
    kept_up = p95_ms <= limit_ms and all(map(math.isfinite, lags_ms))
    verdict = Verdict.PASS if kept_up else Verdict.INVALID
    return GateResult(scenario, name, target, f"{p95_ms:.1f} ms", verdict)


def _judge(met: bool) -> Verdict:
    return Verdict.PASS if met else Verdict.FAIL
