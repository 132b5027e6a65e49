"""Verdicts, their order and their exit codes."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["GateResult", "Verdict", "overall"]


class Verdict(enum.Enum):
    """What a measurement says about its target."""

    PASS = "PASS"  # noqa: S105 - a verdict, no password
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    """Too little data to say."""
    INVALID = "INVALID"
    """The measurement itself cannot be trusted, whatever it says."""
    INFORMATION = "-"
    """There is no target."""

    @property
    def exit_code(self) -> int:
        """Exit code of a program that ends with this verdict."""
        return _EXIT_CODES[self]


_EXIT_CODES = {
    Verdict.PASS: 0,
    Verdict.FAIL: 1,
    Verdict.INCONCLUSIVE: 3,
    Verdict.INVALID: 4,
    # Figures without a target never amount to a pass.
    Verdict.INFORMATION: 3,
}
# An invalid measurement outweighs all: its failures may be its own. A failure on sound data
# stays one, however little is known about the other targets.
_WORST_FIRST = (Verdict.INVALID, Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS)


@dataclass(frozen=True, slots=True)
class GateResult:
    """One row of the verdict table.

    Attributes:
        scenario: name of the scenario; empty for the whole run.
        name: what is judged.
        target: what it should be, in words; empty where there is no target.
        measured: what it was, in words with units.
        verdict: what follows.
    """

    scenario: str
    name: str
    target: str
    measured: str
    verdict: Verdict


def overall(results: Iterable[GateResult]) -> Verdict:
    """Return the worst verdict: INVALID, then FAIL, then INCONCLUSIVE, then PASS.

    Args:
        results: rows of a table; those without a target do not count.

    Returns:
        The worst; INCONCLUSIVE if nothing was judged.
    """
    found = {result.verdict for result in results}
    for verdict in _WORST_FIRST:
        if verdict in found:
            return verdict
    return Verdict.INCONCLUSIVE
