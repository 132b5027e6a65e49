"""What ``harden stress`` shows: a bar and a coloured table on a terminal, plain lines elsewhere."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from harden.load.report import TABLE_HEADINGS, table_rows, text_table
from harden.load.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harden.load.hand_over import Progress as RunProgress
    from harden.load.report import Report

__all__ = ["Display"]

_PLAIN_LINES_PER_SCENARIO = 4
_STYLES = {
    Verdict.PASS: "green",
    Verdict.FAIL: "bold red",
    Verdict.INCONCLUSIVE: "yellow",
    Verdict.INVALID: "bold magenta",
    Verdict.INFORMATION: "dim",
}


class Display:
    """Standard output, as a terminal or as a file takes it."""

    def __init__(self, console: Console | None = None) -> None:
        """Write to a console; None takes standard output."""
        self._console = console or Console(highlight=False)

    def line(self, text: str) -> None:
        """Show one line as it is."""
        self._console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """Show that something takes a while."""
        if self._console.is_terminal:
            with self._console.status(f"{text} …"):
                yield
        else:
            self.line(f"{text} ...")
            yield

    @contextmanager
    def progress(self) -> Iterator[Callable[[RunProgress], None]]:
        """Show how far a run is; gives the function to tell it by."""
        if self._console.is_terminal:
            with _bars(self._console) as observe:
                yield observe
        else:
            yield _PlainProgress(self.line)

    def verdict(self, report: Report) -> None:
        """Show the verdict table and, as the last line, the verdict."""
        if self._console.is_terminal:
            self._console.print(_table(report))
        else:
            self.line(text_table(report.rows))
        self._console.print(
            report.closing_line(), style=_STYLES[report.verdict], markup=False, soft_wrap=True
        )


@contextmanager
def _bars(console: Console) -> Iterator[Callable[[RunProgress], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]} failed"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bars:
        tasks = {}

        def observe(news: RunProgress) -> None:
            if news.scenario not in tasks:
                tasks[news.scenario] = bars.add_task(news.scenario, total=news.total, failed=0)
            bars.update(tasks[news.scenario], completed=news.done, failed=news.failed)

        yield observe


class _PlainProgress:
    """A few lines a scenario, for logs."""

    def __init__(self, line: Callable[[str], None]) -> None:
        self._line = line
        self._shown: tuple[str, int] | None = None

    def __call__(self, news: RunProgress) -> None:
        step = news.done * _PLAIN_LINES_PER_SCENARIO // max(news.total, 1)
        if (news.scenario, step) != self._shown:
            self._shown = (news.scenario, step)
            self._line(f"{news.scenario}: {news.done} of {news.total}, {news.failed} failed")


def _table(report: Report) -> Table:
    table = Table(title=f"{report.url}, {report.duration_s:.0f} s")
    for heading in TABLE_HEADINGS:
        table.add_column(heading, overflow="fold")
    for row, cells in zip(report.rows, table_rows(report.rows), strict=True):
        *words, verdict = cells
        table.add_row(*map(Text, words), Text(verdict, _STYLES[row.verdict]))
    return table
