"""harden.cli.stress_display: a bar and a table on a terminal, plain lines in a file."""

from __future__ import annotations

import io
import re
import unittest

from rich.console import Console

from harden.cli.stress_display import Display
from harden.load.hand_over import Progress
from harden.load.report import Report
from harden.load.verdict import GateResult, Verdict

ROWS = (
    GateResult("sequential", "success", "> 90%", "80.0% (80 of 100)", Verdict.FAIL),
    GateResult("sequential", "ledger", "client = server", "equal [all of it]", Verdict.PASS),
)
REPORT = Report("http://h", "2026-01-01T00:00:00+00:00", 3.0, 1, ROWS)


class DisplayTest(unittest.TestCase):
    def display(self, *, terminal: bool) -> Display:
        self.output = io.StringIO()
        return Display(Console(file=self.output, force_terminal=terminal, width=60))

    def shown(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.output.getvalue())


class TestPlain(DisplayTest):
    def test_table_is_not_wrapped(self):
        """In a file each row stays one line, whatever the width, and brackets are no markup."""
        self.display(terminal=False).verdict(REPORT)
        lines = self.shown().splitlines()
        self.assertEqual(len(lines), 4)
        self.assertRegex(lines[2], r"client = server +equal \[all of it\] +PASS$")
        self.assertEqual(lines[-1], "FAIL: sequential success: 80.0% (80 of 100)")
        self.assertNotIn("\x1b", self.output.getvalue())

    def test_progress_is_a_few_lines(self):
        """A log gets a handful of lines a scenario, not one a request."""
        display = self.display(terminal=False)
        with display.waiting("Starting"), display.progress() as observe:
            for done in range(1, 101):
                observe(Progress("sequential", done, 100, 2))
        lines = self.shown().splitlines()
        self.assertEqual(lines[0], "Starting ...")
        self.assertLess(len(lines), 8)
        self.assertEqual(lines[-1], "sequential: 100 of 100, 2 failed")


class TestTerminal(DisplayTest):
    def test_table_has_every_cell_and_colours(self):
        """Nothing is cut away in a narrow window, and the closing line is the last."""
        self.display(terminal=True).verdict(REPORT)
        self.assertIn("\x1b[", self.output.getvalue())
        for word in ("sequential", "80.0%", "client =", "server", "[all", "PASS"):
            self.assertIn(word, self.shown())
        self.assertIn("FAIL: sequential success", self.shown().splitlines()[-1])

    def test_progress_is_a_bar(self):
        """One bar a scenario, with count and failures."""
        with self.display(terminal=True).progress() as observe:
            observe(Progress("sequential", 50, 100, 2))
            observe(Progress("concurrent", 10, 10, 0))
        self.assertIn("50/100", self.shown())
        self.assertIn("2 failed", self.shown())
        self.assertIn("10/10", self.shown())


if __name__ == "__main__":
    unittest.main()
