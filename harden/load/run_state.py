"""What users and conductor share during a run, safe between threads."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harden.load.records import RequestRecord
    from harden.load.verdict import Verdict

__all__ = ["RunEndedError", "RunState"]


class RunEndedError(Exception):
    """The run cannot go on.

    Attributes:
        verdict: what that makes of it.
        name: what was expected, as the name of a row of the verdict table.
        target: how it should have been.
        measured: how it was.
    """

    def __init__(self, verdict: Verdict, name: str, target: str, measured: str) -> None:
        super().__init__(measured)
        self.verdict = verdict
        self.name = name
        self.target = target
        self.measured = measured


class RunState:
    """The users that wait, the records so far, and whatever ended the run.

    Attributes:
        records: records of the scenario at hand, in order of arrival.
    """

    def __init__(self, observe: Callable[[Sequence[RequestRecord]], None]) -> None:
        """Start without users and records.

        Args:
            observe: told the records of the scenario after each one that is added.
        """
        self._observe = observe
        self._changed = threading.Condition()
        self._waiting: set[str] = set()
        self._end: RunEndedError | None = None
        self.records: list[RequestRecord] = []

    @property
    def users(self) -> int:
        """How many users wait or work."""
        return len(self._waiting)

    def add_user(self, user: str) -> None:
        """Note that a user is there and waits for releases."""
        with self._changed:
            self._waiting.add(user)
            self._changed.notify_all()

    def remove_user(self, user: str) -> None:
        """Note that a user is gone."""
        with self._changed:
            self._waiting.discard(user)
            self._changed.notify_all()

    def add_record(self, record: RequestRecord) -> None:
        """Take the record of one request."""
        with self._changed:
            self.records.append(record)
            self._changed.notify_all()
        self._observe(self.records)

    def end(self, reason: RunEndedError) -> None:
        """Make every wait raise this reason, if there is none yet."""
        with self._changed:
            self._end = self._end or reason
            self._changed.notify_all()

    def wait_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait for a condition over this state.

        Args:
            condition: asked after each change.
            timeout_s: longest wait.

        Returns:
            Whether the condition holds.

        Raises:
            RunEndedError: something ended the run.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            self._changed.wait_for(
                lambda: self._end is not None or condition(), deadline - time.monotonic()
            )
            if self._end is not None:
                raise self._end
            return condition()
