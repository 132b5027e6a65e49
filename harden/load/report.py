"""The outcome of a run, as a plain table and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from harden.load.verdict import GateResult, Verdict, overall

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["SCHEMA", "TABLE_HEADINGS", "Report", "table_rows", "text_table"]

SCHEMA = 1
"""Version of the JSON; it changes when a field is removed or changes its sense."""
TABLE_HEADINGS = ("scenario", "what", "target", "measured", "verdict")


@dataclass(frozen=True, slots=True)
class Report:
    """What a run amounts to.

    Attributes:
        url: address of the server.
        started_at: start of the run, ISO 8601 in UTC.
        duration_s: its length in seconds.
        seed: seed of the prompts.
        rows: the verdict table.
        figures: by scenario, the numbers of ``judge.figures``.
    """

    url: str
    started_at: str
    duration_s: float
    seed: int
    rows: Sequence[GateResult]
    figures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of the table."""
        return overall(self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values; docs/load.md describes them."""
        return {
            "schema": SCHEMA,
            "verdict": self.verdict.value,
            "exit_code": self.verdict.exit_code,
            "url": self.url,
            "started_at": self.started_at,
            "duration_s": round(self.duration_s, 3),
            "seed": self.seed,
            "rows": [{**asdict(row), "verdict": row.verdict.value} for row in self.rows],
            "figures": {name: dict(values) for name, values in self.figures.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Report:
        """Return the report that ``to_dict`` wrote."""
        return cls(
            url=values["url"],
            started_at=values["started_at"],
            duration_s=values["duration_s"],
            seed=values["seed"],
            rows=tuple(
                GateResult(**{**row, "verdict": Verdict(row["verdict"])}) for row in values["rows"]
            ),
            figures=values["figures"],
        )

    def closing_line(self) -> str:
        """Return the verdict, and where it is bad the rows that made it so."""
        verdict = self.verdict
        reasons = [
            f"{row.scenario} {row.name}: {row.measured}"
            for row in self.rows
            if row.verdict is verdict
        ]
        if verdict is Verdict.PASS or not reasons:
            return verdict.value
        return f"{verdict.value}: {'; '.join(reasons)}"


def table_rows(rows: Sequence[GateResult]) -> list[tuple[str, ...]]:
    """Return the cells of the verdict table under ``TABLE_HEADINGS``."""
    return [
        (row.scenario, row.name, row.target or "-", row.measured, row.verdict.value) for row in rows
    ]


def text_table(rows: Sequence[GateResult]) -> str:
    """Return the verdict table as plain text, for a log.

    Args:
        rows: its rows.
    """
    lines = [TABLE_HEADINGS, *table_rows(rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(TABLE_HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
