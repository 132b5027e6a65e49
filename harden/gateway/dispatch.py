"""What is in the worker, who may join it, and who is to blame when it dies.

The rules are those of the design: a death with several requests in the worker convicts nobody,
and those of them that can be replayed are sent again one at a time, with nothing else running,
until each is answered. A request that is alone when the worker dies by its own doing is
convicted; one that is alone when the worker is killed from outside is convicted at the third
time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harden.gateway.worker import Worker

__all__ = ["Dispatch", "Flight"]

_LONELY_KILLS = 3
_GHOST_LIFE_S = 2.0


@dataclass(slots=True, eq=False)
class Flight:
    """One request on its way to an answer.

    Attributes:
        replayable: no part of an answer has reached the client yet.
        suspect: it was in a worker that died, so it now goes alone.
        convicted: it will not be tried again.
    """

    replayable: bool = True
    suspect: bool = False
    convicted: bool = False
    lonely_kills: int = 0


class Dispatch:
    """The gate before the worker. All calls come from the event loop's thread."""

    def __init__(self) -> None:
        """No worker yet, nobody in it."""
        self._changed: set[asyncio.Future[None]] = set()
        self._worker: Worker | None = None
        self._inside: dict[Flight, None] = {}  # in order of entering
        self._suspects: deque[Flight] = deque()
        self._judged_batches: set[tuple[int, int]] = set()
        self.has_been_ready = False

    @property
    def inside(self) -> int:
        """Requests that are in the worker now."""
        return len(self._inside)

    @property
    def worker(self) -> Worker | None:
        """The worker that takes requests now."""
        return self._worker

    def worker_ready(self, worker: Worker) -> None:
        """Let requests through to ``worker``."""
        self._worker = worker
        self.has_been_ready = True
        self._notify()

    def worker_gone(self, *, own_doing: bool) -> None:
        """The worker is dead: judge what was in it, and hold everyone until the next is ready.

        Args:
            own_doing: it died of a signal or an exit of its own, not by a kill from outside.
        """
        self._worker = None
        self._judge(tuple(self._inside), own_doing=own_doing)
        self._inside.clear()
        self._notify()

    def batch_lost(self, worker: Worker, batch: int) -> None:
        """The worker's generation thread started over; every request in its batch says so.

        Only the first of them judges: by then the others are still inside.
        """
        if worker is not self._worker or (worker.number, batch) in self._judged_batches:
            return  # judged already, here or by the worker's death
        self._judged_batches.add((worker.number, batch))
        self._judge(tuple(self._inside), own_doing=True)
        self._notify()

    def _judge(self, inside: tuple[Flight, ...], *, own_doing: bool) -> None:
        if len(inside) == 1:
            (flight,) = inside
            flight.lonely_kills += 1
            flight.convicted = own_doing or flight.lonely_kills >= _LONELY_KILLS
        for flight in inside:
            if flight.replayable and not flight.suspect and not flight.convicted:
                flight.suspect = True
                self._suspects.append(flight)

    async def enter(self, flight: Flight) -> Worker:
        """Wait until ``flight`` may go to the worker, and count it as inside."""
        while (worker := self._admit(flight)) is None:
            changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._changed.add(changed)
            try:
                await changed
            finally:
                self._changed.discard(changed)
        return worker

    def _admit(self, flight: Flight) -> Worker | None:
        if self._worker is None:
            return None
        if flight.suspect:
            allowed = self._suspects[0] is flight and not self._inside
        else:
            allowed = not self._suspects
        if not allowed:
            return None
        self._inside[flight] = None
        return self._worker

    def leave(self, flight: Flight, *, answered: bool) -> None:
        """``flight`` is no longer inside.

        Args:
            flight: any flight, inside or not.
            answered: the worker is done with it. Otherwise it may still be at work on it for a
                moment, and stays inside as far as blame goes.
        """
        if flight in self._inside and not answered:
            asyncio.get_running_loop().call_later(_GHOST_LIFE_S, self._forget, flight)
        else:
            self._inside.pop(flight, None)
        self._notify()

    def close(self, flight: Flight) -> None:
        """The request has been answered for good, well or badly: others may stop waiting for it."""
        if flight in self._suspects:
            self._suspects.remove(flight)
            self._notify()

    def _forget(self, flight: Flight) -> None:
        self._inside.pop(flight, None)
        self._notify()

    def _notify(self) -> None:
        for changed in self._changed:
            if not changed.done():
                changed.set_result(None)
