"""From the evidence of one scenario to the rows of the verdict table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harden.load import gates
from harden.load.ledger import ClientLedger, reconcile
from harden.load.verdict import GateResult, Verdict
from harden.percentiles import inverted_cdf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harden.load.metrics_client import ServerSnapshot
    from harden.load.records import RequestRecord

__all__ = ["Evidence", "figures", "judge"]

_PERCENTS = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known about a finished scenario.

    Attributes:
        scenario: its name.
        warm_up: records of its warm-up.
        measured: records of the rest.
        before: the server at rest, before the warm-up.
        warm: the server at rest, after the warm-up.
        after: the server at rest, at the end.
    """

    scenario: str
    warm_up: Sequence[RequestRecord]
    measured: Sequence[RequestRecord]
    before: ServerSnapshot
    warm: ServerSnapshot
    after: ServerSnapshot


def judge(evidence: Evidence) -> list[GateResult]:
    """Return the rows of one scenario: its targets, then figures without a target."""
    targets = _TARGETS[evidence.scenario](evidence)
    name, measured = evidence.scenario, evidence.measured
    ledger = ClientLedger.of([*evidence.warm_up, *measured])
    return [
        *targets,
        gates.ledgers_agree(name, reconcile(ledger, evidence.before, evidence.after)),
        gates.harness_lag(name, [record.lag_ms for record in measured]),
        *_information(evidence),
    ]


def figures(records: Sequence[RequestRecord]) -> dict[str, Any]:
    """Return the figures of some requests as JSON-ready values.

    Args:
        records: the requests; times are reported over those that succeeded.

    Returns:
        Counts, ``tokens_per_second`` (None without a success) and, for ``latency_ms``,
        ``ttft_ms`` and ``inter_token_ms``, count and percentiles (None without samples).
    """
    good = [record for record in records if record.succeeded]
    tokens = sum(record.completion_tokens or 0 for record in good)
    span_s = max(r.end_s for r in good) - min(r.sent_s for r in good) if good else 0.0
    return {
        "requests": len(records),
        "succeeded": len(good),
        "tokens_per_second": tokens / span_s if span_s > 0 else None,
        "latency_ms": _distribution([record.latency_ms for record in good]),
        "ttft_ms": _distribution([r.ttft_ms for r in good if r.ttft_ms is not None]),
        "inter_token_ms": _distribution(
            [r.inter_token_ms for r in good if r.inter_token_ms is not None]
        ),
    }


def _distribution(values: Sequence[float]) -> dict[str, float | int | None]:
    ordered = sorted(values)
    return {"count": len(ordered)} | {
        f"p{percent}": inverted_cdf(ordered, percent) if ordered else None for percent in _PERCENTS
    }


def _sequential(evidence: Evidence) -> list[GateResult]:
    name = evidence.scenario
    good = [record for record in evidence.measured if record.succeeded]
    warm, after = evidence.warm, evidence.after
    return [
        gates.success_share(name, len(good), len(evidence.measured)),
        gates.latency_spread(name, [record.latency_ms for record in good]),
        *gates.memory_growths(
            name,
            warm.memory_mb,
            after.memory_mb,
            same_worker=warm.worker_starts == after.worker_starts,
        ),
    ]


def _concurrent(evidence: Evidence) -> list[GateResult]:
    records = evidence.measured
    succeeded = sum(record.succeeded for record in records)
    return [gates.all_complete(evidence.scenario, succeeded, len(records))]


_TARGETS = {"sequential": _sequential, "concurrent": _concurrent}


def _information(evidence: Evidence) -> list[GateResult]:
    found = figures(evidence.measured)
    rows = [
        ("TTFT", _milliseconds(found["ttft_ms"])),
        ("inter-token latency", _milliseconds(found["inter_token_ms"])),
        ("end-to-end latency", _milliseconds(found["latency_ms"])),
    ]
    if found["tokens_per_second"] is not None:
        rows.append(("throughput", f"{found['tokens_per_second']:.0f} tokens/s"))
    if evidence.warm.mlx_active_mb is not None and evidence.after.mlx_active_mb is not None:
        change = f"{evidence.warm.mlx_active_mb:.1f} -> {evidence.after.mlx_active_mb:.1f} MB"
        rows.append(("MLX arrays", change))
    return [
        GateResult(evidence.scenario, name, "", measured, Verdict.INFORMATION)
        for name, measured in rows
    ]


def _milliseconds(distribution: dict[str, Any]) -> str:
    if not distribution["count"]:
        return "no samples"
    return f"p50 {distribution['p50']:.1f} ms, p95 {distribution['p95']:.1f} ms"
